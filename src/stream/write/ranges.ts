/** A set of positions in the stream, as ranges. */
import { max, min, type Offset } from "../../protocol/offset.ts";

/** Ranges [start, end), in no order, which may overlap: there are only a few. */
export class Ranges {
  #ranges: { readonly start: Offset; readonly end: Offset }[] = [];

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  add(start: Offset, end: Offset): void {
    if (start < end) this.#ranges.push({ start, end });
  }

  remove(start: Offset, end: Offset): void {
    if (this.isEmpty) return;
    const ranges = this.#ranges;
    this.#ranges = [];
    for (const range of ranges) {
      // What lies before the removed range, and what lies behind it.
      this.add(range.start, min(range.end, start));
      this.add(max(range.start, end), range.end);
    }
  }
}
