/** A set of positions in a stream, as runs. */
import { add, max, min, type Offset, subtract } from "../protocol/offset.ts";

/** A run [start, end) of positions. */
export interface Run {
  readonly start: Offset;
  readonly end: Offset;
}

/** The most runs of a {@link Chunk}: to move so many takes no time. */
const CHUNK = 512;

/** Some runs that follow each other, never none. Arrays of numbers alone take 8 bytes for each. */
interface Chunk {
  readonly starts: Offset[];
  readonly ends: Offset[];
}

/**
 * Runs in order, disjoint, and never touching. There may be millions of them, as of a client that writes small
 * pieces all over a disk: an array of all would be moved with every piece.
 */
export class Runs {
  readonly #chunks: Chunk[] = [];
  #count = 0;
  #total: Offset = 0;
  // Where #find has been.
  #chunk = 0;
  #index = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get count(): number {
    return this.#count;
  }

  /** Where the first run starts; undefined when there is none. */
  get start(): Offset | undefined {
    return this.#chunks[0]?.starts[0];
  }

  /** Where the last run ends; undefined when there is none. */
  get end(): Offset | undefined {
    return this.#chunks.at(-1)?.ends.at(-1);
  }

  /** The sum of all lengths. */
  get total(): Offset {
    return this.#total;
  }

  /**
   * Goes to the first run that ends behind `offset`, or `at` it.
   *
   * @returns the chunk; undefined when there is no such run
   */
  #find(offset: Offset, at = false): Chunk | undefined {
    const chunks = this.#chunks;
    let from = 0;
    for (let to = chunks.length; from < to;) {
      const middle = (from + to) >>> 1;
      const { ends } = chunks[middle] as Chunk;
      if (endsBehind(ends[ends.length - 1] as Offset, offset, at)) to = middle;
      else from = middle + 1;
    }
    this.#chunk = from;
    this.#index = 0;
    const chunk = chunks[from];
    if (chunk === undefined) return undefined;
    from = 0;
    for (let to = chunk.ends.length; from < to;) {
      const middle = (from + to) >>> 1;
      if (endsBehind(chunk.ends[middle] as Offset, offset, at)) to = middle;
      else from = middle + 1;
    }
    this.#index = from;
    return chunk;
  }

  /** The run in which `offset` lies, or the first one behind it. */
  at(offset: Offset): Run | undefined {
    const chunk = this.#find(offset);
    if (chunk === undefined) return undefined;
    const index = this.#index;
    return { start: chunk.starts[index] as Offset, end: chunk.ends[index] as Offset };
  }

  /** How many runs end at `offset` or before. */
  countBelow(offset: Offset): number {
    this.#find(offset);
    let count = this.#index;
    for (let i = 0; i < this.#chunk; i++) count += (this.#chunks[i] as Chunk).starts.length;
    return count;
  }

  /** The end of the run in which `offset` lies; undefined when it is not in the set. */
  endAt(offset: Offset): Offset | undefined {
    return this.has(offset) ? this.#chunks[this.#chunk]?.ends[this.#index] : undefined;
  }

  /** True when `offset` is in the set. */
  has(offset: Offset): boolean {
    const chunk = this.#find(offset);
    return chunk !== undefined && (chunk.starts[this.#index] as Offset) <= offset;
  }

  /** True when all of [start, end), which is not empty, is in the set. */
  covers(start: Offset, end: Offset): boolean {
    const chunk = this.#find(start);
    if (chunk === undefined) return false;
    const index = this.#index;
    return (chunk.starts[index] as Offset) <= start && (chunk.ends[index] as Offset) >= end;
  }

  /** True when a part of [start, end) is in the set. */
  overlaps(start: Offset, end: Offset): boolean {
    if (start >= end) return false;
    const chunk = this.#find(start);
    return chunk !== undefined && (chunk.starts[this.#index] as Offset) < end;
  }

  /** Visits the parts of [start, end) that are in the set, in order; `visit` must not change it. */
  each(start: Offset, end: Offset, visit: (from: Offset, to: Offset) => void): void {
    if (start >= end) return;
    this.#find(start);
    let index = this.#index;
    for (let i = this.#chunk; i < this.#chunks.length; i++, index = 0) {
      const { starts, ends } = this.#chunks[i] as Chunk;
      for (; index < starts.length; index++) {
        const from = starts[index] as Offset;
        if (from >= end) return;
        visit(max(from, start), min(ends[index] as Offset, end));
      }
    }
  }

  add(start: Offset, end: Offset): void {
    if (start >= end) return;
    const chunk = this.#find(start, true);
    const index = this.#index;
    if (chunk === undefined || (chunk.starts[index] as Offset) > end) {
      this.#insert(start, end);
      return;
    }
    const { starts, ends } = chunk;
    const from = starts[index] as Offset;
    const to = ends[index] as Offset;
    starts[index] = min(from, start);
    this.#grown(from, starts[index] as Offset);
    if (end <= to) return;
    ends[index] = end;
    this.#grown(to, end);
    this.#joinFollowing(chunk);
  }

  /** Counts what has come between two ends of a run. */
  #grown(one: Offset, other: Offset): void {
    if (one === other) return;
    this.#total = add(this.#total, one < other ? subtract(other, one) : subtract(one, other));
  }

  /** Joins the run that was found, and has grown, with all that it has come to. */
  #joinFollowing(chunk: Chunk): void {
    const at = this.#index;
    const end = chunk.ends[at] as Offset;
    let following = chunk;
    let first = at + 1;
    for (;;) {
      const { starts, ends } = following;
      let last = first;
      while (last < starts.length && (starts[last] as Offset) <= end) {
        const from = starts[last] as Offset;
        const to = ends[last++] as Offset;
        this.#total = subtract(this.#total, subtract(min(to, end), from));
        if (to > end) chunk.ends[at] = to;
      }
      const isThrough = last < starts.length;
      this.#take(following, first, last);
      if (following !== chunk && starts.length === 0) this.#chunks.splice(this.#chunk + 1, 1);
      if (isThrough) return;
      const next = this.#chunks[this.#chunk + 1];
      if (next === undefined) return;
      following = next;
      first = 0;
    }
  }

  /** Takes runs [from, to) out of a chunk. */
  #take({ starts, ends }: Chunk, from: number, to: number): void {
    if (to === from) return;
    starts.splice(from, to - from);
    ends.splice(from, to - from);
    this.#count -= to - from;
  }

  /** Puts a run that touches no other before the one that was found. */
  #insert(start: Offset, end: Offset): void {
    this.#count++;
    this.#total = add(this.#total, subtract(end, start));
    const chunks = this.#chunks;
    let chunk = chunks[this.#chunk];
    let index = this.#index;
    if (chunk === undefined) {
      // Behind all others.
      chunk = chunks.at(-1);
      if (chunk === undefined || chunk.starts.length === CHUNK) {
        chunks.push({ starts: [start], ends: [end] });
        return;
      }
      index = chunk.starts.length;
    } else if (chunk.starts.length === CHUNK) {
      const half = CHUNK / 2;
      const rest = { starts: chunk.starts.splice(half), ends: chunk.ends.splice(half) };
      chunks.splice(this.#chunk + 1, 0, rest);
      if (index > half) {
        chunk = rest;
        index -= half;
      }
    }
    chunk.starts.splice(index, 0, start);
    chunk.ends.splice(index, 0, end);
  }

  remove(start: Offset, end: Offset): void {
    if (start >= end) return;
    const chunk = this.#find(start);
    if (chunk === undefined) return;
    const index = this.#index;
    const to = chunk.ends[index] as Offset;
    if ((chunk.starts[index] as Offset) < start) {
      chunk.ends[index] = start;
      this.#total = subtract(this.#total, subtract(to, start));
      this.#index++;
      if (to > end) {
        this.#insert(end, to);
        return;
      }
    }
    this.#removeFound(end);
  }

  /** Removes all before `end` from the run on that was found. */
  #removeFound(end: Offset): void {
    for (let chunk; (chunk = this.#chunks[this.#chunk]) !== undefined; this.#index = 0) {
      const { starts, ends } = chunk;
      const first = this.#index;
      let last = first;
      for (; last < starts.length && (starts[last] as Offset) < end; last++) {
        const from = starts[last] as Offset;
        const to = ends[last] as Offset;
        this.#total = subtract(this.#total, subtract(min(to, end), from));
        if (to <= end) continue;
        starts[last] = end;
        break;
      }
      const isThrough = last < starts.length;
      this.#take(chunk, first, last);
      if (starts.length === 0) this.#chunks.splice(this.#chunk, 1);
      else this.#chunk++;
      if (isThrough) return;
    }
  }
}

function endsBehind(end: Offset, offset: Offset, at: boolean): boolean {
  return end > offset || (at && end === offset);
}
