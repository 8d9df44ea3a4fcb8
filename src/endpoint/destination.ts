/** A sink as the main thread has it: what is prepared before the stream and cleared up after it. */
import type { SinkSpec } from "./spec.ts";

/** What `pipe=` has led to. */
export interface Destination {
  /** For messages: what the user called it. */
  readonly name: string;
  /** What the stream thread opens. */
  readonly spec: SinkSpec;
  /**
   * The stream is truncated: sees to it that whoever takes it cannot take it for whole. Called
   * before the stream thread closes the sink.
   */
  cancel(): Promise<void>;
  /**
   * The stream is complete, and the stream thread has closed the sink: waits for what the other
   * end makes of it.
   *
   * @param stop aborted when there is no time to wait any more
   * @returns what is wrong, or undefined when all is well
   */
  settle(stop: AbortSignal): Promise<string | undefined>;
  /** Clears up; called in every case, last. */
  remove(): void;
}

/** The parts of a destination that has nothing to cancel, to wait for or to clear up. */
export const PLAIN = {
  cancel: () => Promise.resolve(),
  settle: () => Promise.resolve(undefined),
  remove: () => {},
} as const;
