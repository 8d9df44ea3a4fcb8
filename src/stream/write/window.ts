/** Data that came ahead of its turn, held in memory until the gap before it fills. */
import { Memory } from "../../../ffi/memory.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, WINDOW_BLOCK } from "../blocks.ts";

/** Memory is taken in pieces of this size, at stream positions that are multiples of it. */
const BLOCK = WINDOW_BLOCK;

/** Pieces that {@link Window.shift} gives out at once: fewer than writev(2) takes. */
const MAX_PIECES = 512;

/** A run of held bytes, [start, end). */
interface Run {
  start: Offset;
  end: Offset;
}

/**
 * Holds data wherever in the stream it belongs, in at most `size` bytes of memory. What limits it
 * is the memory and not the distance: a client that goes around a disk full of holes may be far
 * ahead with little data.
 */
export class Window {
  /**
   * The most that had to be held at once, in bytes of memory: what came ahead of its turn, until what
   * lies before it came or was read. What is held behind a gap that stays one does not count, however
   * much it is: a smaller window would have emitted it, and done as well.
   */
  needed = 0;
  /** In order, disjoint, and never touching. */
  readonly #runs: Run[] = [];
  readonly #blocks = new Map<Offset, Memory>();
  /** Blocks that WRITEs which are not complete belong into, and how many of those. */
  readonly #arriving = new Map<Offset, number>();
  /** Blocks that may still be on their way to the sink, until the next call. */
  #leaving: Memory[] = [];
  readonly #free: Memory[] = [];
  readonly #allocate: () => Memory;

  /**
   * @param size bytes
   * @param allocate gives WINDOW_BLOCK bytes; always the same ones where only the accounts matter
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
   * @param out the sink has what the last shift gave out: its memory may be used again
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

  /** Copies bytes to where they are held already; what is not held of their place is left out. */
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

  /** A WRITE into [start, end) did not come whole: lets go of what only it has reserved. */
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
   * Counts what is {@link needed}, when something comes for `offset` or is read there: what is held from
   * there on could not have been emitted before, nor the run in which it lies, as what follows on the
   * head is not held. Called before that itself is held, and before anything is emitted for it.
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
    // All there are, without those below: the shorter way, unless some hold nothing yet.
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

  /** What lies below `head` has been overtaken. */
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
   * @param push gets its pieces by address, which stay as they are until the next shift or {@link reserve}
   * @param limit nothing at or behind this is taken; the run starts before it
   * @returns where what was taken ends
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

  /** Lets go of the blocks of [start, end), the start of the first run; not of those that others share. */
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

/** How many blocks runs lie in, which are in order and disjoint. */
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
