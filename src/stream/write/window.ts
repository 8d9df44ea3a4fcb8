/** Data that came ahead of its turn, held in memory until the gap before it fills. */
import { Memory } from "../../../ffi/memory.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, eachBlock, WINDOW_BLOCK } from "../blocks.ts";

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
  /** The most memory that was taken, in bytes. */
  needed = 0;
  /** In order, disjoint, and never touching. */
  readonly #runs: Run[] = [];
  readonly #blocks = new Map<Offset, Memory>();
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
    return this.#runs.find((run) => run.end > offset);
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
   * Copies bytes to their place, where they fit; they count as held only after {@link hold}.
   *
   * @param out what the last shift gave out is with the sink: its memory may be used again
   */
  put(at: Offset, bytes: Uint8Array, out = true): void {
    if (out) this.#recycle();
    let done = 0;
    eachBlock(BLOCK, at, add(at, bytes.length), (key, place, length) => {
      this.#blockAt(key).bytes.set(bytes.subarray(done, done + length), place);
      done += length;
    });
    this.needed = Math.max(this.needed, this.#blocks.size * BLOCK);
  }

  /** Takes the memory that {@link put} would, and puts nothing there. */
  reserve(start: Offset, end: Offset): void {
    this.#recycle();
    eachBlock(BLOCK, start, end, (key) => void this.#blockAt(key));
    this.needed = Math.max(this.needed, this.#blocks.size * BLOCK);
  }

  #blockAt(key: Offset): Memory {
    let block = this.#blocks.get(key);
    if (block === undefined) {
      block = this.#free.pop() ?? this.#allocate();
      this.#blocks.set(key, block);
    }
    return block;
  }

  /** Counts [start, end) as held. */
  hold(start: Offset, end: Offset): void {
    const runs = this.#runs;
    let from = 0;
    while (from < runs.length && (runs[from] as Run).end < start) from++;
    let to = from;
    const merged = { start, end };
    while (to < runs.length && (runs[to] as Run).start <= end) {
      const run = runs[to++] as Run;
      merged.start = min(merged.start, run.start);
      merged.end = max(merged.end, run.end);
    }
    runs.splice(from, to - from, merged);
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
   * @param push gets its pieces by address; they stay as they are until the next shift, or put of which it is told that they are out
   * @param limit nothing at or behind this is taken; the run starts before it
   * @returns where what was taken ends
   */
  shift(push: (address: number, length: number) => void, limit?: Offset): Offset {
    this.#recycle();
    const run = this.#runs[0] as Run;
    const start = run.start;
    const end = min(min(run.end, limit ?? run.end), add(start, BLOCK * MAX_PIECES));
    eachBlock(BLOCK, start, end, (key, place, length) => {
      push((this.#blocks.get(key) as Memory).at(place), length);
    });
    this.#drop(start, end, this.#leaving);
    run.start = end;
    if (run.end === end) this.#runs.shift();
    return end;
  }

  /** Zeroes what is held of [start, end); it stays held. */
  zero(start: Offset, end: Offset): void {
    this.#eachHeld(start, end, (bytes) => bytes.fill(0));
  }

  /**
   * Reads back what is held of [start, start + length).
   *
   * @returns that many bytes, zeroes where nothing is held; undefined when nothing of it is held
   */
  read(start: Offset, length: number): Uint8Array | undefined {
    let result: Uint8Array | undefined;
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

  /** A WRITE did not come whole: lets go of the memory that only its bytes are in. */
  forget(start: Offset, end: Offset): void {
    eachBlock(BLOCK, start, end, (key) => {
      if (
        !this.#runs.some(
          (run) =>
            blockOf(run.start, BLOCK) <= key && key < blockOf(add(run.end, BLOCK - 1), BLOCK),
        )
      ) {
        this.#release(key, this.#free);
      }
    });
  }

  /** Lets go of the blocks of [start, end), the start of the first run; not of one shared. */
  #drop(start: Offset, end: Offset, into: Memory[]): void {
    const rest = this.#runs.find((run) => run.end > end);
    const shared = rest === undefined ? undefined : blockOf(max(rest.start, end), BLOCK);
    eachBlock(BLOCK, start, end, (key) => {
      if (key !== shared) this.#release(key, into);
    });
  }

  #release(key: Offset, into: Memory[]): void {
    const block = this.#blocks.get(key);
    if (block === undefined) return;
    this.#blocks.delete(key);
    into.push(block);
  }

  #eachHeld(start: Offset, end: Offset, visit: (bytes: Uint8Array, from: Offset) => void): void {
    for (const run of this.#runs) {
      if (run.start >= end) return;
      let from = max(run.start, start);
      eachBlock(BLOCK, from, min(run.end, end), (key, place, length) => {
        const block = this.#blocks.get(key) as Memory;
        visit(block.bytes.subarray(place, place + length), from);
        from = add(from, length);
      });
    }
  }
}
