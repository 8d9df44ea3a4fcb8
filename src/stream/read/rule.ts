/**
 * The rule of a stream that is read: what can be asked for, when its bytes come only once.
 *
 * Pure arithmetic: nothing is read, sent or waited for here.
 */
import { advertisedSize } from "../../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";

/** The start of the stream, in bytes, that can always be read again: programs look there for what it is. */
export const KEPT = 1024 * 1024;

export class ReadRule {
  /** Bytes that clients have been given, or that were skipped. */
  head: Offset = 0;
  /** The most, in bytes, that a client has gone back behind the head and what is kept. */
  needed = 0;
  /** The size of the disk in bytes: whole sectors. What lies behind `size` reads as zeroes. */
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

  /** Takes on a READ of at least one byte. @returns false when it wants what is not kept any more */
  admit(offset: Offset, length: Offset): boolean {
    const end = add(offset, length);
    if (offset >= this.head || min(end, this.head) <= KEPT) return true;
    const needed = this.windowFor(offset);
    if (needed > this.window) return false;
    this.needed = Math.max(this.needed, Number(needed));
    return true;
  }

  /** The window that a READ below the head takes, in bytes; what is kept takes none. */
  windowFor(offset: Offset): Offset {
    return subtract(this.head, min(max(offset, KEPT), this.head));
  }

  /**
   * True when a client that reads up to `end` moves the stream: it has more than what can always be read
   * again. A program that only looks at what the disk holds does not.
   */
  movesStream(end: Offset): boolean {
    return end > KEPT || end >= this.size;
  }

  /** Where the bytes start that can be read again, what is kept aside. */
  get reach(): Offset {
    return this.head > this.window ? subtract(this.head, this.window) : 0;
  }
}
