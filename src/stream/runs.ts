/** A set of positions in a stream, as runs. */
import { add, max, min, type Offset, subtract } from "../protocol/offset.ts";

/** A run [start, end) of positions. */
export interface Run {
  readonly start: Offset;
  readonly end: Offset;
}

/** Runs in order, disjoint, and never touching. */
export class Runs {
  readonly #runs: Run[] = [];

  get isEmpty(): boolean {
    return this.#runs.length === 0;
  }

  get count(): number {
    return this.#runs.length;
  }

  get first(): Run | undefined {
    return this.#runs[0];
  }

  get last(): Run | undefined {
    return this.#runs.at(-1);
  }

  /** The sum of all lengths. */
  get total(): Offset {
    return this.#runs.reduce<Offset>((sum, { start, end }) => add(sum, subtract(end, start)), 0);
  }

  /** Which run is the first that ends behind `offset`; {@link count} when none does. */
  indexAt(offset: Offset): number {
    const runs = this.#runs;
    let from = 0;
    let to = runs.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((runs[middle] as Run).end > offset) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  /** The run in which `offset` lies, or the first one behind it. */
  at(offset: Offset): Run | undefined {
    return this.#runs[this.indexAt(offset)];
  }

  /** True when `offset` is in the set. */
  has(offset: Offset): boolean {
    const run = this.at(offset);
    return run !== undefined && run.start <= offset;
  }

  /** True when all of [start, end) is in the set. */
  covers(start: Offset, end: Offset): boolean {
    const run = this.at(start);
    return run !== undefined && run.start <= start && run.end >= end;
  }

  /** True when a part of [start, end) is in the set. */
  overlaps(start: Offset, end: Offset): boolean {
    const run = this.at(start);
    return run !== undefined && run.start < end;
  }

  /** Runs from `from` to `to`, by their places in the order. */
  slice(from: number, to?: number): readonly Run[] {
    return this.#runs.slice(from, to);
  }

  /** Visits the parts of [start, end) that are in the set, in order. */
  each(start: Offset, end: Offset, visit: (from: Offset, to: Offset) => void): void {
    const runs = this.#runs;
    for (let index = this.indexAt(start); index < runs.length; index++) {
      const run = runs[index] as Run;
      if (run.start >= end) return;
      visit(max(run.start, start), min(run.end, end));
    }
  }

  add(start: Offset, end: Offset): void {
    if (start >= end) return;
    const runs = this.#runs;
    let from = this.indexAt(start);
    if (from > 0 && (runs[from - 1] as Run).end === start) from--;
    let to = from;
    const merged = { start, end };
    while (to < runs.length && (runs[to] as Run).start <= end) {
      const run = runs[to++] as Run;
      merged.start = min(merged.start, run.start);
      merged.end = max(merged.end, run.end);
    }
    runs.splice(from, to - from, merged);
  }

  remove(start: Offset, end: Offset): void {
    const runs = this.#runs;
    const from = this.indexAt(start);
    let to = from;
    const rest: Run[] = [];
    for (; to < runs.length && (runs[to] as Run).start < end; to++) {
      const run = runs[to] as Run;
      if (run.start < start) rest.push({ start: run.start, end: start });
      if (run.end > end) rest.push({ start: end, end: run.end });
    }
    if (to > from) runs.splice(from, to - from, ...rest);
  }

  clear(): void {
    this.#runs.length = 0;
  }
}
