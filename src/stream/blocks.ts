/** Arithmetic for positions of the stream in blocks of memory. */
import { add, min, type Offset, subtract, toOffset } from "../protocol/offset.ts";

/** The pieces, in bytes, in which a written stream's window takes memory. */
export const WINDOW_BLOCK = 64 * 1024;

/** Number of the block in which a position lies. */
export function blockOf(at: Offset, size: number): Offset {
  return typeof at === "number" ? Math.floor(at / size) : toOffset(at / BigInt(size));
}

/** Where the block of this number begins. */
export function blockStart(block: Offset, size: number): Offset {
  return toOffset(BigInt(block) * BigInt(size));
}

/** A position's place in its block. */
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
