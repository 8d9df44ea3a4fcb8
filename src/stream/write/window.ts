/** Data ahead of its turn, held in memory until the gap before it is filled. */
import { Memory } from "../../../ffi/memory.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, WINDOW_BLOCK as BLOCK } from "../blocks.ts";

/** Blocks that {@link Window.shift} gives out at once: fewer than writev(2) takes. */
const MAX_PIECES = 512;

/** A run of held bytes, [start, end). */
interface Run {
  start: Offset;
  end: Offset;
}

/**
 * Holds data at any position of the stream, in at most `size` bytes of memory. The memory limits it, not the
 * distance: in a disk full of holes a client may be far ahead with little data.
 */
export class Window {
  /**
   * The most memory that was needed at once, in bytes: for data ahead of its turn, until the data before it
   * came or was read. Data behind a gap that is never filled does not count: a smaller window would have
   * emitted it, and would have been as good.
   */
  needed = 0;
  /** In order, disjoint, and never touching. */
  readonly #runs: Run[] = [];
  readonly #blocks = new Map<Offset, Memory>();
  /** By block, the number of incomplete WRITEs into it. */
  readonly #arriving = new Map<Offset, number>();
  /** Blocks that may still be on their way to the sink, until the next call. */
  #leaving: Memory[] = [];
  readonly #free: Memory[] = [];
  readonly #allocate: () => Memory;

  /**
   * @param size bytes
   * @param allocate returns WINDOW_BLOCK bytes; always the same ones where only the positions matter
   */
  constructor(
    readonly size: number,
    allocate = () => new Memory(BLOCK),
  ) {
    this.#allocate = allocate;
  }

  /** How many separate runs are held. */
  get runs(): number {
    return this.#runs.length;
  }

  /** Where the first held run starts; undefined when nothing is held. */
  get start(): Offset | undefined {
    return this.#runs[0]?.start;
  }

  /** Where the last held run ends; undefined when nothing is held. */
  get end(): Offset | undefined {
    return this.#runs.at(-1)?.end;
  }

  /** Bytes that are held. */
  get held(): Offset {
    return this.#runs.reduce<Offset>((sum, { start, end }) => add(sum, subtract(end, start)), 0);
  }

  /** The held run in which `offset` lies, or the first one behind it. */
  runAt(offset: Offset): Readonly<Run> | undefined {
    return this.#runs[this.#indexAt(offset)];
  }

  /** True when there is room for [start, end). */
  fits(start: Offset, end: Offset): boolean {
    let blocks = this.#blocks.size;
    eachBlock(BLOCK, start, end, (key) => {
      if (!this.#blocks.has(key)) blocks++;
    });
    return blocks * BLOCK <= this.size;
  }

  /**
   * Takes the memory for [start, end), where it fits, until {@link hold} or {@link forget}.
   *
   * @param out the sink has taken what the last shift gave out, so its memory may be used again
   */
  reserve(start: Offset, end: Offset, out = true): void {
    if (out) this.#recycle();
    eachBlock(BLOCK, start, end, (key) => {
      if (!this.#blocks.has(key)) this.#blocks.set(key, this.#free.pop() ?? this.#allocate());
      this.#arriving.set(key, (this.#arriving.get(key) ?? 0) + 1);
    });
  }

  /** Copies bytes into memory that is reserved; they count as held only after {@link hold}. */
  put(at: Offset, bytes: Uint8Array): void {
    let done = 0;
    eachBlock(BLOCK, at, add(at, bytes.length), (key, place, length) => {
      this.#block(key).bytes.set(bytes.subarray(done, done + length), place);
      done += length;
    });
  }

  /** A copy of what was put into [start, end), which is reserved. */
  reserved(start: Offset, end: Offset): Uint8Array {
    const result = new Uint8Array(Number(subtract(end, start)));
    let done = 0;
    eachBlock(BLOCK, start, end, (key, place, length) => {
      result.set(this.#block(key).bytes.subarray(place, place + length), done);
      done += length;
    });
    return result;
  }

  /** Copies bytes over data that is held; leaves out those whose position is not held. */
  overwrite(at: Offset, bytes: Uint8Array): void {
    this.#eachHeld(at, add(at, bytes.length), (held, from) => {
      const place = Number(subtract(from, at));
      held.set(bytes.subarray(place, place + held.length));
    });
  }

  #block(key: Offset): Memory {
    return this.#blocks.get(key) as Memory;
  }

  /** Counts [start, end), which was reserved, as held. */
  hold(start: Offset, end: Offset): void {
    const runs = this.#runs;
    let from = this.#indexAt(start);
    if (from > 0 && (runs[from - 1] as Run).end === start) from--;
    let to = from;
    const merged = { start, end };
    while (to < runs.length && (runs[to] as Run).start <= end) {
      const run = runs[to++] as Run;
      merged.start = min(merged.start, run.start);
      merged.end = max(merged.end, run.end);
    }
    runs.splice(from, to - from, merged);
    eachBlock(BLOCK, start, end, (key) => this.#arrived(key));
  }

  /** A WRITE into [start, end) did not arrive completely: releases what only it has reserved. */
  forget(start: Offset, end: Offset): void {
    eachBlock(BLOCK, start, end, (key) => {
      this.#arrived(key);
      const from = blockStart(key, BLOCK);
      const run = this.runAt(from);
      if (run === undefined || run.start >= add(from, BLOCK)) this.#release(key, this.#free);
    });
  }

  #arrived(key: Offset): void {
    const others = (this.#arriving.get(key) ?? 1) - 1;
    if (others === 0) this.#arriving.delete(key);
    else this.#arriving.set(key, others);
  }

  /**
   * Updates {@link needed} for a request at `offset`: the data that is held from there on, and the run around
   * it, could not have been emitted before. Called before the request's data is held, and before anything
   * is emitted for it.
   */
  countNeeded(offset: Offset): void {
    if (this.#blocks.size * BLOCK <= this.needed) return;
    const index = this.#indexAt(offset);
    if (index === this.#runs.length) return;
    this.needed = Math.max(this.needed, this.#blocksFrom(index) * BLOCK);
  }

  /** Blocks in which the run of this index lies, or one behind it. */
  #blocksFrom(index: number): number {
    const runs = this.#runs;
    // All blocks without those below are quicker to count, unless some hold nothing yet.
    if (index > runs.length / 2 || this.#arriving.size > 0) return blocksOf(runs.slice(index));
    const below = runs.slice(0, index);
    const last = below.at(-1);
    const first = blockOf((runs[index] as Run).start, BLOCK);
    const shared = last !== undefined && lastBlockOf(last) === first;
    return this.#blocks.size - blocksOf(below) + (shared ? 1 : 0);
  }

  /** Which run is the first that ends behind `offset`; the number of runs when none does. */
  #indexAt(offset: Offset): number {
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

  /** Drops the data below `head`. */
  trim(head: Offset): void {
    const runs = this.#runs;
    for (let first = runs[0]; first !== undefined && first.start < head; first = runs[0]) {
      const end = min(first.end, head);
      this.#drop(first.start, end, this.#free);
      first.start = end;
      if (first.end === end) runs.shift();
    }
  }

  /**
   * Takes the first held run out, or the first part of a long one.
   *
   * @param push gets its pieces by address, which are valid until the next shift or {@link reserve}
   * @param limit takes only data before this; the run starts before it
   * @returns the end of what was taken
   */
  shift(push: (address: number, length: number) => void, limit?: Offset): Offset {
    this.#recycle();
    const run = this.#runs[0] as Run;
    const start = run.start;
    const end = min(min(run.end, limit ?? run.end), add(start, BLOCK * MAX_PIECES));
    eachBlock(BLOCK, start, end, (key, place, length) => {
      push(this.#block(key).at(place), length);
    });
    this.#drop(start, end, this.#leaving);
    run.start = end;
    if (run.end === end) this.#runs.shift();
    return end;
  }

  /** Zeroes what is held of [start, end); it stays held. */
  zero(start: Offset, end: Offset): void {
    const run = this.runAt(start);
    if (run === undefined || run.start >= end) return;
    this.countNeeded(run.start);
    this.#eachHeld(start, end, (bytes) => bytes.fill(0));
  }

  /**
   * Reads back what is held of [start, start + length).
   *
   * @returns that many bytes, zeroes where nothing is held; undefined when nothing of it is held
   */
  read(start: Offset, length: number): Uint8Array | undefined {
    let result: Uint8Array | undefined;
    if (length > 0) this.countNeeded(start);
    this.#eachHeld(start, add(start, length), (bytes, from) => {
      result ??= new Uint8Array(length);
      result.set(bytes, Number(subtract(from, start)));
    });
    return result;
  }

  /** The sink has taken what the last shift gave out. */
  #recycle(): void {
    this.#free.push(...this.#leaving);
    this.#leaving = [];
  }

  /** Releases the blocks of [start, end), the start of the first run, except one that the rest shares. */
  #drop(start: Offset, end: Offset, into: Memory[]): void {
    const rest = this.runAt(end);
    const shared = rest === undefined ? undefined : blockOf(max(rest.start, end), BLOCK);
    eachBlock(BLOCK, start, end, (key) => {
      if (key !== shared) this.#release(key, into);
    });
  }

  #release(key: Offset, into: Memory[]): void {
    const block = this.#blocks.get(key);
    if (block === undefined || this.#arriving.has(key)) return;
    this.#blocks.delete(key);
    into.push(block);
  }

  #eachHeld(start: Offset, end: Offset, visit: (bytes: Uint8Array, from: Offset) => void): void {
    const runs = this.#runs;
    for (let index = this.#indexAt(start); index < runs.length; index++) {
      const run = runs[index] as Run;
      if (run.start >= end) return;
      let from = max(run.start, start);
      eachBlock(BLOCK, from, min(run.end, end), (key, place, length) => {
        visit(this.#block(key).bytes.subarray(place, place + length), from);
        from = add(from, length);
      });
    }
  }
}

function lastBlockOf({ end }: Run): Offset {
  return blockOf(subtract(end, 1), BLOCK);
}

/** The number of blocks of runs, which are in order and disjoint. */
function blocksOf(runs: readonly Run[]): number {
  let blocks = 0;
  let last: Offset = -1;
  for (const run of runs) {
    const first = blockOf(run.start, BLOCK);
    const end = lastBlockOf(run);
    blocks += Number(subtract(end, first)) + (first === last ? 0 : 1);
    last = end;
  }
  return blocks;
}
