/** Receive buffers, shared by all connections: one that is idle holds none. */
import { Memory } from "../../ffi/memory.ts";

/** As much as one recv(2) takes when requests are small. */
export const BUFFER_SIZE = 1024 * 1024;

/**
 * From this size on, in bytes, a payload is spliced. When written, headers are read alone then, so that the
 * payload behind them stays in the socket. Below it, one large read for many requests and one write for what
 * they hold, or are answered with, cost less.
 */
export const SPLICE_MIN = 32 * 1024;

/** Buffers kept for the next connection that needs one; the rest is left to be collected. */
const SPARE = 2;

export class BufferPool {
  readonly #spare: Memory[] = [];

  /** A buffer of BUFFER_SIZE bytes with whatever its last user left in it. */
  take(): Memory {
    return this.#spare.pop() ?? new Memory(BUFFER_SIZE);
  }

  give(buffer: Memory): void {
    if (buffer.length === BUFFER_SIZE && this.#spare.length < SPARE) this.#spare.push(buffer);
  }
}
