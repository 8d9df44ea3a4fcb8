/** Decides the exit status of a stream (README.md lists them). */
import { EXIT } from "../errors.ts";
import type { Notice } from "../messages/notice.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";
import { type CompletedBy, incompleteReason, type StreamState } from "./stream-state.ts";

/** How a stream has ended. */
export interface Verdict {
  /** The program's exit status. */
  readonly status: number;
  /** Why the stream is truncated; undefined when it is complete. */
  readonly why: Notice | undefined;
}

/** Everything that the exit status depends on, a stop signal aside. */
export interface StreamEnd {
  readonly state: StreamState;
  readonly completedBy: CompletedBy;
  /** The stream's length in bytes, for messages; undefined is without end. */
  readonly size: bigint | undefined;
  /** Its name, if it is one of several, for messages. */
  readonly exportName?: string | undefined;
  /** Its disk is a file, too, for messages. */
  readonly held?: boolean;
  /** The captive command has failed: its own status, and why. */
  readonly commandFailure?: Verdict | undefined;
  /** Another problem, such as a failed command of `exec:`. */
  readonly problem?: Notice | undefined;
}

/**
 * The verdict on a stream that no signal has stopped. The status is that of the captive command if it has
 * failed, else 4 if the stream is truncated, and 0 only if nothing is wrong.
 *
 * @throws the error that has ended the stream thread
 */
export function decideExitStatus(end: StreamEnd): Verdict {
  const { state, completedBy, size, exportName, held, commandFailure, problem } = end;
  if (commandFailure !== undefined) return commandFailure;
  if (state.crash !== undefined) throw state.crash;
  const why = incompleteReason(state, completedBy, size, exportName, held) ?? problem;
  return { status: why === undefined ? EXIT.COMPLETE : EXIT.TRUNCATED, why };
}

/** The verdict on a stream that a signal has stopped before it was complete, or its image stored. */
export function endedBy(
  signal: EndSignal,
  code: "STOPPED" | "STOPPED_BEFORE_STORED" = "STOPPED",
): Verdict {
  return { status: signalStatus(signal), why: { code, signal } };
}
