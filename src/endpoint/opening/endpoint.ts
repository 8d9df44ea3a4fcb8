/** A sink or a source on the main thread: opened before the stream, cleaned up after it. */
import { close } from "../../../ffi/fd.ts";
import type { EndpointHandle } from "../spec.ts";

/** An opened `pipe=` or `read=`. */
export interface Endpoint extends EndpointControl {
  /** What the stream thread opens. */
  readonly handle: EndpointHandle;
  /** The length in bytes of a source that knows it. */
  readonly length?: bigint | undefined;
}

/** What there is to do with an endpoint while its stream runs, and afterwards. */
export interface EndpointControl {
  /** The user's text, for messages. */
  readonly name: string;
  /** True for a command: end of file of a source is its end only after {@link waitForExit}. */
  readonly hasExitStatus: boolean;
  /**
   * Keeps the reader of a truncated stream from taking it for a complete one, and stops a source that
   * is not read to its end. Must be called before the stream thread closes its descriptor; may be
   * called again. Acts at once.
   *
   * @returns resolves when that has taken effect
   */
  cancel(): Promise<void>;
  /**
   * Waits for a command to end, after a sink is complete and closed, or a source has reached end of
   * file. May be called again.
   *
   * @param stop aborted when the command may not take longer
   * @returns what is wrong; undefined when nothing is
   */
  waitForExit(stop: AbortSignal): Promise<string | undefined>;
  /** Called when the stream has begun. @param emitted returns how many bytes have moved */
  follow?(emitted: () => number): void;
  /**
   * Tells how a command that has closed its end of the pipe has ended, such as "failed with status 22";
   * undefined when it still runs after a moment.
   */
  describeExit?(): Promise<string | undefined>;
  /** The signal that killed a command; undefined while it runs, and when it has ended by itself. */
  readonly killedBy?: NodeJS.Signals | number | undefined;
  /** Cleans up; called last, in every case. */
  remove(): void;
}

/** The members of an endpoint with nothing to cancel, wait for or clean up. */
export const PLAIN = {
  hasExitStatus: false,
  cancel: () => Promise.resolve(),
  waitForExit: () => Promise.resolve(undefined),
  remove: () => {},
} as const;

/** Closes a descriptor that the stream thread has not taken. */
export function closeHandle(handle: EndpointHandle): void {
  if (handle.kind !== "fifo") close(handle.fd);
}
