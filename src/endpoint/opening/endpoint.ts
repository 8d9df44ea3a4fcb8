/** A sink or a source as the main thread has it: prepared before the stream, cleared up after it. */
import type { EndpointHandle } from "../spec.ts";

/** What `pipe=` or `read=` has led to. */
export interface Endpoint {
  /** For messages: what the user called it. */
  readonly name: string;
  /** What the stream thread opens. */
  readonly handle: EndpointHandle;
  /** A source's length in bytes, where the source itself tells. */
  readonly length?: bigint | undefined;
  /** True when {@link waitForExit} has something to wait for: a source's end is its end only then. */
  readonly hasExitStatus: boolean;
  /**
   * The stream is truncated, or its source is not read to its end: sees to it that whoever takes it
   * cannot take it for whole. Called before the stream thread closes its descriptor; may be called again.
   * What has to be done is done at once; what is waited for is that it has taken effect.
   */
  cancel(): Promise<void>;
  /**
   * A sink's stream is complete and closed, or a source has come to its end: waits for what the
   * other end makes of it. May be called again.
   *
   * @param stop aborted when there is no time to wait any more
   * @returns what is wrong, or undefined when all is well
   */
  waitForExit(stop: AbortSignal): Promise<string | undefined>;
  /** The stream has begun. @param emitted tells how many bytes it has moved */
  follow?(emitted: () => number): void;
  /**
   * How a command has ended that has stopped taking the stream, such as "failed with status 22";
   * undefined when it has not, after a moment.
   */
  describeExit?(): Promise<string | undefined>;
  /** What has killed a command; undefined while it runs, and where it has ended by itself. */
  readonly killedBy?: NodeJS.Signals | number | undefined;
  /** Clears up; called in every case, last. */
  remove(): void;
}

/** The parts of an endpoint that has nothing to cancel, to wait for or to clear up. */
export const PLAIN = {
  hasExitStatus: false,
  cancel: () => Promise.resolve(),
  waitForExit: () => Promise.resolve(undefined),
  remove: () => {},
} as const;
