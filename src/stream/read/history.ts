/** What has been read from a source and may be asked for (again). */
import { Memory } from "../../../ffi/memory.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import { blockOf, placeIn } from "../blocks.ts";

/** Memory is taken in pieces of so many bytes; a read(2) fills one at the most. */
export const BLOCK = 256 * 1024;

/** The start of the stream, in bytes, that is kept for ever: programs look there for what it is. */
export const KEPT = 1024 * 1024;

/** Where in its memory the byte at `at` lies. */
export function placeInBlock(at: Offset): number {
  return placeIn(at, BLOCK);
}

/** How many of the bytes of [at, end) lie in the same memory as the first. */
export function lengthInBlock(at: Offset, end: Offset): number {
  return Number(min(subtract(end, at), BLOCK - placeInBlock(at)));
}

/** Bytes by their place in the stream. What lies where nothing was put is not to be asked for. */
export class History {
  readonly #blocks = new Map<Offset, Memory>();
  readonly #kept = new Map<Offset, Memory>();
  readonly #free: Memory[] = [];
  /** The block of the last {@link trim}. */
  #trimmed: Offset = 0;

  /** The memory for the byte at `at`, which comes next, and for those behind it in its block. */
  room(at: Offset): Memory {
    const blocks = at < KEPT ? this.#kept : this.#blocks;
    const key = blockOf(at, BLOCK);
    let block = blocks.get(key);
    if (block === undefined) {
      block = this.#free.pop() ?? new Memory(BLOCK);
      blocks.set(key, block);
    }
    return block;
  }

  /** The memory in which the byte at `at` is, at {@link placeInBlock}. */
  memoryAt(at: Offset): Memory {
    const key = blockOf(at, BLOCK);
    return (this.#kept.get(key) ?? this.#blocks.get(key)) as Memory;
  }

  /** Copies [start, end) to `to`, from its byte `offset` on. */
  copy(start: Offset, end: Offset, to: Memory, offset: number): void {
    for (let at = start; at < end;) {
      const length = lengthInBlock(at, end);
      to.copyFrom(this.memoryAt(at), placeInBlock(at), length, offset);
      at = add(at, length);
      offset += length;
    }
  }

  /** Nothing below `limit` is asked for any more, but for what is kept. */
  trim(limit: Offset): void {
    const first = blockOf(limit, BLOCK);
    if (first === this.#trimmed) return;
    this.#trimmed = first;
    // In the order in which they were put: the first is the oldest.
    for (const [key, block] of this.#blocks) {
      if (key >= first) return;
      this.#blocks.delete(key);
      this.#free.push(block);
    }
  }
}
