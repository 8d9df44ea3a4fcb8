/** Data ahead of its turn, held in memory, or in a spool, until the gap before it is filled. */
import { Memory } from "../../../ffi/memory.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, blockStart, eachBlock, placeIn, WINDOW_BLOCK as BLOCK } from "../blocks.ts";
import { type Run, Runs } from "../runs.ts";
import type { SpoolFile } from "../spool-file.ts";

/** Blocks that {@link Window.shift} gives out at once: fewer than writev(2) takes. */
const MAX_PIECES = 512;

/** Bytes of the spool that {@link Window.shift} gives out at once, so that there is memory for them if need be. */
export const SPOOL_PIECE = 8 * 1024 * 1024;

export interface WindowOptions {
  /** Returns WINDOW_BLOCK bytes; always the same ones where only the positions matter. */
  readonly allocate?: () => Memory;
  /** Has what finds no room in the window, at the positions of the stream. */
  readonly spool?: SpoolFile | undefined;
}

/** Gets what {@link Window.shift} takes out, in one piece of a file or in several of memory. */
export interface ShiftTarget {
  /** The address is valid until the next shift or {@link Window.reserve}. */
  pushBytes(address: number, length: number): void;
  pushFile(file: SpoolFile, at: Offset, length: Offset): void;
}

/**
 * Holds data at any position of the stream, in at most `size` bytes of memory. The memory limits it, not the
 * distance: in a disk full of holes a client may be far ahead with little data. With a spool there is room for
 * everything: each block is either in memory or in the file.
 */
export class Window {
  /**
   * The most memory that was needed at once, in bytes: for data ahead of its turn, until the data before it
   * came or was read. Data behind a gap that is never filled does not count: a smaller window would have
   * emitted it, and would have been as good.
   */
  needed = 0;
  /** What is held. */
  readonly #runs = new Runs();
  readonly #blocks = new Map<Offset, Memory>();
  /** By block, the number of incomplete WRITEs into it. */
  readonly #arriving = new Map<Offset, number>();
  /** Blocks that may still be on their way to the sink, until the next call. */
  #leaving: Memory[] = [];
  readonly #free: Memory[] = [];
  readonly #allocate: () => Memory;
  readonly spool: SpoolFile | undefined;
  /** The blocks that are in the spool, whole ones. */
  readonly #spooled = new Runs();

  /** @param size bytes of memory */
  constructor(
    readonly size: number,
    { allocate = () => new Memory(BLOCK), spool }: WindowOptions = {},
  ) {
    this.#allocate = allocate;
    this.spool = spool;
  }

  /** How many separate runs are held. */
  get runs(): number {
    return this.#runs.count;
  }

  /** Where the first held run starts; undefined when nothing is held. */
  get start(): Offset | undefined {
    return this.#runs.start;
  }

  /** Where the last held run ends; undefined when nothing is held. */
  get end(): Offset | undefined {
    return this.#runs.end;
  }

  /** Bytes that are held. */
  get held(): Offset {
    return this.#runs.total;
  }

  /** The held run in which `offset` lies, or the first one behind it. */
  runAt(offset: Offset): Run | undefined {
    return this.#runs.at(offset);
  }

  /** True when there is room for [start, end). */
  fits(start: Offset, end: Offset): boolean {
    if (this.spool !== undefined) return true;
    let blocks = this.#blocks.size;
    eachBlock(BLOCK, start, end, (key) => {
      if (!this.#blocks.has(key)) blocks++;
    });
    return blocks * BLOCK <= this.size;
  }

  /**
   * Takes the memory for [start, end), which is not empty, where it fits, until {@link hold} or {@link forget}.
   *
   * @param out the sink has taken what the last shift gave out, so its memory may be used again
   */
  reserve(start: Offset, end: Offset, out = true): void {
    if (out) this.#recycle();
    const last = blockOf(subtract(end, 1), BLOCK);
    for (let key = blockOf(start, BLOCK); key <= last; key = add(key, 1)) {
      this.#reserveBlock(key);
      this.#arriving.set(key, (this.#arriving.get(key) ?? 0) + 1);
    }
  }

  #reserveBlock(key: Offset): void {
    if (this.#blocks.has(key)) return;
    const from = blockStart(key, BLOCK);
    if (this.#spooled.has(from)) return;
    // What is on its way to the sink takes memory, too.
    const taken = this.#blocks.size + this.#leaving.length;
    if (this.spool === undefined || (taken + 1) * BLOCK <= this.size) {
      this.#blocks.set(key, this.#free.pop() ?? this.#allocate());
      return;
    }
    this.#spooled.add(from, add(from, BLOCK));
    this.needed = this.size;
  }

  /**
   * Copies bytes to where they are reserved; they count as held only after {@link hold}.
   *
   * @param address of the bytes, which must be valid during the call
   * @throws SpoolError
   */
  put(at: Offset, address: number, length: number): void {
    for (let done = 0; done < length;) {
      const position = add(at, done);
      let part = this.spooledFrom(position, length - done);
      if (part > 0) {
        this.spool?.write(position, address + done, part);
      } else {
        const place = placeIn(position, BLOCK);
        part = Math.min(length - done, BLOCK - place);
        this.#block(blockOf(position, BLOCK)).copyFromAddress(address + done, part, place);
      }
      done += part;
    }
  }

  /** How many bytes of [at, at + length), which is reserved, go into the spool before others do not. */
  spooledFrom(at: Offset, length: number): number {
    const end = this.#spooled.endAt(at);
    return end === undefined ? 0 : Number(min(subtract(end, at), length));
  }

  /**
   * Gives `look` a copy of what was put into [start, end), which is reserved.
   *
   * @returns what that returns
   * @throws SpoolError
   */
  reserved<T>(start: Offset, end: Offset, look: (bytes: Uint8Array) => T): T {
    const copy = new Memory(Number(subtract(end, start)));
    try {
      this.#copy(start, end, copy, start);
      return look(copy.bytes);
    } finally {
      copy.free();
    }
  }

  /** Copies [from, to) to its place in memory that stands for the positions from `start` on. */
  #copy(from: Offset, to: Offset, result: Memory, start: Offset): void {
    const place = (position: Offset) => Number(subtract(position, start));
    this.#eachPart(from, to, {
      inMemory: (block, at, length, position) =>
        result.copyFrom(block, at, length, place(position)),
      inSpool: (spool, position, length) => spool.read(position, result, place(position), length),
    });
  }

  /** Visits [start, end), which is reserved: block by block in memory, and as long parts as there are in the spool. */
  #eachPart(
    start: Offset,
    end: Offset,
    visit: {
      inMemory(block: Memory, place: number, length: number, position: Offset): void;
      inSpool(spool: SpoolFile, position: Offset, length: number): void;
    },
  ): void {
    for (let at = start; at < end;) {
      const spooled = this.spooledFrom(at, Number(subtract(end, at)));
      if (spooled > 0) {
        visit.inSpool(this.spool as SpoolFile, at, spooled);
        at = add(at, spooled);
        continue;
      }
      const place = placeIn(at, BLOCK);
      const length = Number(min(subtract(end, at), BLOCK - place));
      visit.inMemory(this.#block(blockOf(at, BLOCK)), place, length, at);
      at = add(at, length);
    }
  }

  /**
   * Copies bytes over data that is held; leaves out those whose position is not held.
   *
   * @throws SpoolError
   */
  overwrite(at: Offset, bytes: Uint8Array): void {
    const memory = new Memory(bytes);
    this.#runs.each(at, add(at, bytes.length), (from, to) => {
      const done = Number(subtract(from, at));
      this.put(from, memory.at(done), Number(subtract(to, from)));
    });
  }

  #block(key: Offset): Memory {
    return this.#blocks.get(key) as Memory;
  }

  /** Counts [start, end), which was reserved, as held. */
  hold(start: Offset, end: Offset): void {
    this.#runs.add(start, end);
    const last = blockOf(subtract(end, 1), BLOCK);
    for (let key = blockOf(start, BLOCK); key <= last; key = add(key, 1)) this.#arrived(key);
  }

  /** A WRITE into [start, end) did not arrive completely: releases what only it has reserved. */
  forget(start: Offset, end: Offset): void {
    eachBlock(BLOCK, start, end, (key) => {
      this.#arrived(key);
      const from = blockStart(key, BLOCK);
      const run = this.runAt(from);
      const isHeld = run !== undefined && run.start < add(from, BLOCK);
      if (!isHeld && !this.#arriving.has(key)) this.#releaseBlock(key, this.#free);
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
    const run = this.#runs.at(offset);
    if (run === undefined) return;
    this.needed = Math.max(this.needed, this.#blocksFrom(run.start) * BLOCK);
  }

  /** Blocks in which the run lies that starts at `start`, or one behind it. */
  #blocksFrom(start: Offset): number {
    const runs = this.#runs;
    // All blocks without those below are quicker to count, unless some hold nothing yet.
    if (runs.countBelow(start) > runs.count / 2 || this.#arriving.size > 0) {
      return blocksOf(runs, start, runs.end as Offset).count;
    }
    const below = blocksOf(runs, 0, start);
    const isShared = below.last === blockOf(start, BLOCK);
    return this.#blocks.size - below.count + (isShared ? 1 : 0);
  }

  /** Drops the data below `head`. */
  trim(head: Offset): void {
    for (let start = this.start; start !== undefined && start < head; start = this.start) {
      const { end } = this.#runs.at(start) as Run;
      this.#drop(start, min(end, head), this.#free);
    }
  }

  /**
   * Takes the first held run out, or the first part of a long one.
   *
   * @param limit takes only data before this; the run starts before it
   * @returns the end of what was taken
   */
  shift(target: ShiftTarget, limit?: Offset): Offset {
    this.#recycle();
    const run = this.runAt(0) as Run;
    const { start } = run;
    const last = min(run.end, limit ?? run.end);
    const spooledEnd = this.#spooled.endAt(start);
    if (this.spool !== undefined && spooledEnd !== undefined) {
      const end = min(min(last, spooledEnd), add(start, SPOOL_PIECE));
      target.pushFile(this.spool, start, subtract(end, start));
      this.#drop(start, end, this.#leaving);
      return end;
    }
    const end = min(
      min(last, this.#spooled.at(start)?.start ?? last),
      add(start, BLOCK * MAX_PIECES),
    );
    eachBlock(BLOCK, start, end, (key, place, length) => {
      target.pushBytes(this.#block(key).at(place), length);
    });
    this.#drop(start, end, this.#leaving);
    return end;
  }

  /** Zeroes what is held of [start, end); it stays held. */
  zero(start: Offset, end: Offset): void {
    const run = this.runAt(start);
    if (run === undefined || run.start >= end) return;
    this.countNeeded(run.start);
    this.#runs.each(start, end, (from, to) =>
      this.#eachPart(from, to, {
        inMemory: (block, place, length) => block.bytes.fill(0, place, place + length),
        inSpool: (spool, position, length) => spool.punch(position, length),
      }),
    );
  }

  /**
   * Reads back what is held of [start, start + length).
   *
   * @returns that many bytes, zeroes where nothing is held; undefined when nothing of it is held
   */
  read(start: Offset, length: number): Uint8Array | undefined {
    let result: Memory | undefined;
    if (length > 0) this.countNeeded(start);
    this.#runs.each(start, add(start, length), (from, to) => {
      result ??= new Memory(length);
      this.#copy(from, to, result, start);
    });
    return result?.bytes;
  }

  /** The sink has taken what the last shift gave out. */
  #recycle(): void {
    this.#free.push(...this.#leaving);
    this.#leaving = [];
  }

  /** Releases [start, end), the start of the first run, and its blocks, except one that the rest shares. */
  #drop(start: Offset, end: Offset, into: Memory[]): void {
    this.#runs.remove(start, end);
    const rest = this.#runs.at(end);
    const shared = rest === undefined ? undefined : blockOf(rest.start, BLOCK);
    const isKept = (key: Offset) => key === shared || this.#arriving.has(key);
    eachBlock(BLOCK, start, end, (key) => {
      if (!isKept(key)) this.#releaseBlock(key, into);
    });
  }

  #releaseBlock(key: Offset, into: Memory[]): void {
    const block = this.#blocks.get(key);
    if (block === undefined) {
      if (this.#spooled.isEmpty) return;
      const from = blockStart(key, BLOCK);
      this.#spooled.remove(from, add(from, BLOCK));
      return;
    }
    this.#blocks.delete(key);
    into.push(block);
  }
}

/** The number of blocks in which the parts of runs in [start, end) lie, and the last of them. */
function blocksOf(runs: Runs, start: Offset, end: Offset): { count: number; last: Offset } {
  let count = 0;
  let last: Offset = -1;
  runs.each(start, end, (from, to) => {
    const first = blockOf(from, BLOCK);
    const isShared = first === last;
    last = blockOf(subtract(to, 1), BLOCK);
    count += Number(subtract(last, first)) + (isShared ? 0 : 1);
  });
  return { count, last };
}
