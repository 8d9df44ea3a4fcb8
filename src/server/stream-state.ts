/** What has happened to a stream, and why it is not complete. exit-status.ts decides the exit status. */
import type { FailedCommand, Failure, Notice, ReadBack } from "../messages/notice.ts";
import { NBD_ENOSPC } from "../protocol/constants.ts";

/** The events of the stream thread so far. */
export interface StreamState {
  /** Why the stream is broken. */
  failure: Failure | undefined;
  /** The stream thread died of a bug in the program. */
  crash: Error | undefined;
  /** The first WRITE or WRITE_ZEROES that was refused, and the `NBD_E*` value that it got. */
  refused:
    { readonly request: string; readonly error: number; readonly held?: boolean } | undefined;
  /** The first request to read what had gone by. */
  readBack: ReadBack | undefined;
  /** A client has reached the transmission phase. */
  connected: boolean;
  /** A client that moved the stream has left. */
  streamed: boolean;
  /** A client that moved the stream has left without NBD_CMD_DISC. */
  dropped: boolean;
  /** A client that has not moved the stream, or not yet, has left without NBD_CMD_DISC. */
  abandoned: boolean;
  /** A client that moved the stream was lost, and may still come back. */
  awaited: boolean;
  /** The processes or clients that remained when the command had ended and nothing happened any more. */
  leftBehind: Notice | undefined;
  /** The source was read to its end. */
  sourceEnded: boolean;
  /** A stream that was held is out, and its reader waits for the end. */
  atEnd: boolean;
  /** The stream thread has ended. */
  ended: boolean;
}

export function initialState(): StreamState {
  return {
    failure: undefined,
    crash: undefined,
    refused: undefined,
    readBack: undefined,
    connected: false,
    streamed: false,
    dropped: false,
    abandoned: false,
    awaited: false,
    leftBehind: undefined,
    sourceEnded: false,
    atEnd: false,
    ended: false,
  };
}

/**
 * Why a captive command has failed, as far as the stream knows.
 *
 * @param status the command's
 * @param command undefined of a dry run
 */
export function commandFailure(
  state: StreamState,
  status: number,
  command?: FailedCommand,
): Notice {
  const { failure, refused, readBack } = state;
  if (failure !== undefined) return failure;
  if (refused !== undefined) return refusal(refused, undefined);
  return { code: "COMMAND_FAILED", command, status, readBack };
}

/** What tells that the data is complete. */
export type CompletedBy =
  /** The clients, by NBD_CMD_DISC. */
  | "clients"
  /** The captive command, by exiting with status 0. */
  | "command";

/**
 * Why the stream is not complete; undefined if it is.
 *
 * @param size the stream's length, for the message
 * @param exportName its name, if it is one of several
 */
export function incompleteReason(
  state: StreamState,
  completedBy: CompletedBy,
  size: bigint | undefined,
  exportName?: string,
): Notice | undefined {
  if (state.crash !== undefined) return { code: "CRASHED", message: state.crash.message };
  if (state.failure !== undefined) return state.failure;
  if (state.refused !== undefined) return refusal(state.refused, size);
  if (state.leftBehind !== undefined) return state.leftBehind;
  // A command may hide that its client has died, perhaps before its first request.
  const diedEarly = completedBy === "command" && state.abandoned && !state.streamed;
  if (state.dropped || diedEarly) return { code: "CLIENT_LEFT" };
  if (completedBy === "command" && !state.connected) return { code: "NEVER_CONNECTED", exportName };
  return undefined;
}

function refusal(
  { request, error, held = false }: NonNullable<StreamState["refused"]>,
  size: bigint | undefined,
): Notice {
  return error === NBD_ENOSPC
    ? { code: "REFUSED_PAST_END", request, size, held }
    : { code: "REFUSED_FLAGS", request };
}
