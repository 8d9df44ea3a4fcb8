/** What has been read from a source and may be asked for (again). */
import { Memory } from "../../../ffi/memory.ts";
import type { Offset } from "../../protocol/offset.ts";
import { blockOf, eachBlock, placeIn } from "../blocks.ts";

/** Memory is taken in pieces of this size; a read(2) fills one at the most. */
const BLOCK = 256 * 1024;

/** The start of the stream, in bytes, that is kept for ever: programs look there for what it is. */
export const KEPT = 1024 * 1024;

/** A place for bytes that come next. */
export interface Room {
  readonly memory: Memory;
  /** Where in it they belong. */
  readonly place: number;
  /** How many fit. */
  readonly length: number;
}

/** Bytes by their place in the stream. What lies where nothing was put is not to be asked for. */
export class History {
  readonly #blocks = new Map<Offset, Memory>();
  readonly #kept = new Map<Offset, Memory>();
  readonly #free: Memory[] = [];

  /** Where the bytes from `at` on are to be put. */
  room(at: Offset): Room {
    const place = placeIn(at, BLOCK);
    return { memory: this.#blockAt(at), place, length: BLOCK - place };
  }

  #blockAt(at: Offset): Memory {
    const blocks = at < KEPT ? this.#kept : this.#blocks;
    const key = blockOf(at, BLOCK);
    let block = blocks.get(key);
    if (block === undefined) {
      block = this.#free.pop() ?? new Memory(BLOCK);
      blocks.set(key, block);
    }
    return block;
  }

  /** Shows [start, end) piece by piece: `length` bytes at `place` of a memory. */
  each(
    start: Offset,
    end: Offset,
    visit: (memory: Memory, place: number, length: number) => void,
  ): void {
    eachBlock(BLOCK, start, end, (key, place, length) => {
      visit((this.#kept.get(key) ?? this.#blocks.get(key)) as Memory, place, length);
    });
  }

  /** Copies [start, end) to `at`. */
  copy(start: Offset, end: Offset, to: Uint8Array, at: number): void {
    this.each(start, end, (memory, place, length) => {
      to.set(memory.bytes.subarray(place, place + length), at);
      at += length;
    });
  }

  /** Nothing below `limit` is asked for any more, but for what is kept. */
  trim(limit: Offset): void {
    // In the order in which they were put: the first is the oldest.
    for (const [key, block] of this.#blocks) {
      if (key >= blockOf(limit, BLOCK)) return;
      this.#blocks.delete(key);
      this.#free.push(block);
    }
  }
}
