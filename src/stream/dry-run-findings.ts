/** What a survey of a client finds: plain data, which crosses from thread to thread. */
import type { Offset } from "../protocol/offset.ts";

/** A number of requests and their bytes. */
export interface Tally {
  readonly requests: number;
  readonly bytes: number;
}

/** A request that came behind data that was written before. */
export interface BackwardRequest {
  /** The request, as messages have it. */
  readonly request: string;
  readonly offset: Offset;
  /** Bytes. */
  readonly length: Offset;
  /** How far the data had come by then. */
  readonly head: Offset;
}

/** What clients have done to a disk that is to be a stream. */
export interface DryRunFindings {
  /** NBD_CMD_WRITE. */
  readonly writes: Tally;
  /** NBD_CMD_WRITE_ZEROES. */
  readonly zeroes: Tally;
  /** What was left out when a WRITE came: neither written nor zeroed until then. */
  readonly gaps: Tally;
  /** What came behind data that was written before, whether it came twice or late. */
  readonly backward: Tally;
  /** The first of these, a few. */
  readonly places: readonly BackwardRequest[];
  /** The longest way back, in bytes. */
  readonly farthest: Offset;
  /** NBD_CMD_READ. */
  readonly reads: Tally;
  /** Of these, the ones that found something in the window that was held for them. */
  readonly readsHeld: Tally;
  /** Of these, the ones that wanted data that has gone by. */
  readonly readsBack: Tally;
  readonly flushes: number;
  /** A WRITE has come before the one before it was answered: their order may depend on chance. */
  readonly concurrent: boolean;
  /** Where the stream would end: behind all that was written or zeroed. */
  readonly end: Offset;
  /**
   * The smallest `window=` with which the stream would have been the same for the client, and complete;
   * how much of it was needed; and the largest such window. Bytes; 0 is none. Undefined when none
   * would do.
   */
  readonly window:
    { readonly size: number; readonly needed: number; readonly largest: number } | undefined;
  /**
   * A larger window would have answered the client otherwise than it was answered, with which it may
   * have gone on in another way.
   */
  readonly undecided: boolean;
  /** The client scatters its data over more places than are followed: larger windows may do. */
  readonly scattered: boolean;
}
