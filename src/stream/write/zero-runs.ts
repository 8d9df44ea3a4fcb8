/** Where the stream has zeroes that no client sent as data. */
import type { Offset } from "../../protocol/offset.ts";

/** Runs remembered, so that a stream of any length takes the same memory. */
const REMEMBERED = 4096;

/** The latest runs of zeroes that were emitted, in order. */
export class ZeroRuns {
  readonly #starts: Offset[] = [];
  readonly #ends: Offset[] = [];

  /** Adds [start, end), which lies behind all runs before. */
  add(start: Offset, end: Offset): void {
    const last = this.#ends.length - 1;
    if (this.#ends[last] === start) {
      this.#ends[last] = end;
      return;
    }
    this.#starts.push(start);
    this.#ends.push(end);
    if (this.#starts.length < 2 * REMEMBERED) return;
    this.#starts.splice(0, REMEMBERED);
    this.#ends.splice(0, REMEMBERED);
  }

  /** What lies at or behind `end` is not out after all. */
  rewind(end: Offset): void {
    const [starts, ends] = [this.#starts, this.#ends];
    while (starts.length > 0 && (starts.at(-1) as Offset) >= end) {
      starts.pop();
      ends.pop();
    }
    const last = ends.length - 1;
    if (last >= 0 && (ends[last] as Offset) > end) ends[last] = end;
  }

  /** True when all of [start, end) is within one run. */
  cover(start: Offset, end: Offset): boolean {
    let at = this.#starts.length - 1;
    while (at >= 0 && (this.#starts[at] as Offset) > start) at--;
    return at >= 0 && end <= (this.#ends[at] as Offset);
  }
}
