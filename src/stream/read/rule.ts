/** The rule of a stream that is read: which READs it can answer. Pure arithmetic, without I/O. */
import { advertisedSize } from "../../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";

/** Bytes at the start of the stream that can always be read again: programs detect its format there. */
export const KEPT = 1024 * 1024;

export class ReadRule {
  /** Bytes that clients have got or skipped. */
  head: Offset = 0;
  /** The most bytes that a client has gone back below the head, except into the kept start. */
  needed = 0;
  /** The size of the disk in bytes: whole sectors. Bytes behind `size` read as zeroes. */
  readonly advertised: Offset;

  /**
   * @param size the stream's length in bytes
   * @param window bytes behind the head that can be read again
   */
  constructor(
    readonly size: Offset,
    readonly window: number,
  ) {
    this.advertised = advertisedSize(size);
  }

  /** True for a READ that does not go past the end. */
  contains(offset: Offset, length: Offset): boolean {
    return add(offset, length) <= this.advertised;
  }

  /** Admits a READ of at least one byte. @returns false when its data is not kept any more */
  admit(offset: Offset, length: Offset): boolean {
    const end = add(offset, length);
    if (offset >= this.head || min(end, this.head) <= KEPT) return true;
    const needed = this.windowFor(offset);
    if (needed > this.window) return false;
    this.needed = Math.max(this.needed, Number(needed));
    return true;
  }

  /** The window, in bytes, that a READ below the head needs; the kept start needs none. */
  windowFor(offset: Offset): Offset {
    return subtract(this.head, min(max(offset, KEPT), this.head));
  }

  /**
   * True when a client that reads up to `end` moves the stream: it reads more than the kept start. A program
   * that only detects the format does not.
   */
  movesStream(end: Offset): boolean {
    return end > KEPT || end >= this.size;
  }

  /** The first byte that can be read again, the kept start aside. */
  get reach(): Offset {
    return this.head > this.window ? subtract(this.head, this.window) : 0;
  }
}
