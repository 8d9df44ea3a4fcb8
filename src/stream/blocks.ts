/** Arithmetic for positions of the stream in blocks of memory. */
import { add, min, type Offset, subtract, toOffset } from "../protocol/offset.ts";

/** Bytes of a block of a written stream's window, at stream positions that are multiples of it. */
export const WINDOW_BLOCK = 64 * 1024;

/** The number of the block around a position. */
export function blockOf(at: Offset, size: number): Offset {
  return typeof at === "number" ? Math.floor(at / size) : toOffset(at / BigInt(size));
}

/** The first position of the block with this number. */
export function blockStart(block: Offset, size: number): Offset {
  const start = typeof block === "number" ? block * size : Number.POSITIVE_INFINITY;
  return start <= Number.MAX_SAFE_INTEGER ? start : toOffset(BigInt(block) * BigInt(size));
}

/** A position relative to its block. */
export function placeIn(at: Offset, size: number): number {
  return typeof at === "number" ? at % size : Number(at % BigInt(size));
}

/** Visits the blocks of `size` bytes in which [start, end) lies, with place and length in each. */
export function eachBlock(
  size: number,
  start: Offset,
  end: Offset,
  visit: (block: Offset, place: number, length: number) => void,
): void {
  for (let at = start; at < end;) {
    const place = placeIn(at, size);
    const length = Number(min(subtract(end, at), size - place));
    visit(blockOf(at, size), place, length);
    at = add(at, length);
  }
}
