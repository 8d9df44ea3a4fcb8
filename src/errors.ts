/** Errors for the user: one line, a stable code, an exit status, no stack trace. */

/**
 * Exit statuses, as docs/command-line.md lists them. A captive command's own failure passes through, and a
 * signal gives 128 plus its number.
 */
export const EXIT = {
  /** The stream is complete. */
  COMPLETE: 0,
  /** A bug in the program. */
  INTERNAL: 1,
  /** The command line is wrong; nothing was started. */
  USAGE: 2,
  /** Something that the stream needs is missing or failed to start; nothing was streamed. */
  SETUP: 3,
  /** The stream is truncated. */
  TRUNCATED: 4,
  /** The captive command cannot be executed. */
  NOT_EXECUTABLE: 126,
  /** The captive command does not exist. */
  NOT_FOUND: 127,
} as const;

/** The codes do not change between releases. */
export type ErrorCode =
  | "ERR_USAGE"
  | "ERR_BUN"
  | "ERR_PIPE"
  | "ERR_LISTEN"
  | "ERR_FILE"
  | "ERR_TLS"
  | "ERR_COMMAND"
  | "ERR_QEMU_IMG"
  | "ERR_TRUNCATED";

/** What happened and what to do about it, in one line. */
export class UserError extends Error {
  override readonly name = "UserError";
  /** The stream that it is about, of several. */
  subject: string | undefined;

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly exitStatus: number = EXIT.SETUP,
  ) {
    super(message);
  }
}

/** Says of an error which of several streams it is about. */
export function about(stream: string, error: unknown): unknown {
  if (error instanceof UserError && error.subject === undefined) {
    error.subject = stream;
    error.message = `${stream}: ${error.message}`;
  }
  return error;
}

/** The command line is wrong. */
export function usageError(message: string): UserError {
  return new UserError("ERR_USAGE", message, EXIT.USAGE);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
