/** What a stream should be, worked out the plain way: a disk in memory and one position. */

/** A request of a script, by the number of the client that makes it. */
export type Step =
  | { kind: "write"; client: number; offset: number; length: number }
  | { kind: "zero"; client: number; offset: number; length: number }
  | { kind: "read"; client: number; offset: number; length: number }
  | { kind: "flush"; client: number };

const OK = 0;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;

/** Window memory is taken in blocks of this size. */
const BLOCK = 64 * 1024;

/**
 * A byte array with a note for every byte: emitted, held or not there yet. It knows nothing of runs,
 * queues or descriptors; where the program is clever, this is slow.
 */
export class Oracle {
  head = 0;
  pending = 0;
  broken = false;
  readonly disk: Uint8Array;
  /** 1 where a byte is held ahead of the head. */
  readonly #held: Uint8Array;
  /** 1 where a byte was emitted that nobody sent: a zero of a gap. */
  readonly #gap: Uint8Array;
  readonly #sectors: number;

  constructor(
    readonly size: number,
    readonly window: number,
  ) {
    this.#sectors = Math.ceil(size / 512) * 512;
    this.disk = new Uint8Array(this.#sectors);
    this.#held = new Uint8Array(this.#sectors);
    this.#gap = new Uint8Array(this.#sectors);
  }

  /** @returns the error that the client gets */
  write(offset: number, data: Uint8Array): number {
    if (this.broken) return EIO;
    if (data.length === 0) return OK;
    const end = offset + data.length;
    if (end > this.#sectors) return ENOSPC;
    if (offset < this.head) return this.#break();
    const inside = data.subarray(0, Math.max(0, this.size - offset));
    const tail = data.subarray(inside.length);
    if (inside.length > 0) this.#place(offset, inside);
    else this.pending = Math.max(this.pending, this.size);
    if (tail.length > 0 && inside.length > 0 && this.head >= this.size) this.pending = this.size;
    return tail.some((byte) => byte !== 0) ? ENOSPC : OK;
  }

  /** @returns the error that the client gets */
  zero(offset: number, length: number): number {
    if (this.broken) return EIO;
    if (length === 0) return OK;
    const end = offset + length;
    if (end > this.#sectors) return ENOSPC;
    const below = this.#gap.subarray(offset, Math.min(end, this.head));
    if (offset < this.head && below.some((gap) => gap === 0)) return this.#break();
    this.pending = Math.max(this.pending, Math.min(end, this.size));
    for (let at = Math.max(offset, this.head); at < end; at++)
      if (this.#held[at]) this.disk[at] = 0;
    return OK;
  }

  /** @returns the error, or what the client reads */
  read(offset: number, length: number): number | Uint8Array {
    if (offset + length > this.#sectors) return EINVAL;
    if (offset < this.head) return EIO;
    return this.disk
      .slice(offset, offset + length)
      .map((byte, i) => (this.#held[offset + i] ? byte : 0));
  }

  flush(): number {
    return this.broken ? EIO : OK;
  }

  /** All that comes out if the stream ends here. */
  finish(): Uint8Array {
    if (!this.broken) {
      this.#advanceTo(Math.max(this.pending, this.#held.lastIndexOf(1) + 1));
    }
    return this.disk.subarray(0, this.head);
  }

  #break(): number {
    this.broken = true;
    return EIO;
  }

  #place(offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    while (offset > this.head && this.window > 0) {
      if (this.#blocksWith(offset, end) * BLOCK <= this.window) {
        this.disk.set(data, offset);
        this.#held.fill(1, offset, end);
        return;
      }
      const first = this.#held.indexOf(1);
      if (first < 0 || first >= offset) break;
      // No room: the first gap is a hole after all, and the run behind it goes out.
      let stop = first;
      while (this.#held[stop] === 1 && stop < offset && stop - first < 512 * BLOCK) stop++;
      this.#advanceTo(stop);
    }
    this.#advanceTo(offset);
    this.disk.set(data, offset);
    this.head = end;
    this.#held.fill(0, 0, end);
    this.pending = Math.max(this.pending, end);
    this.#emitNext();
  }

  /** What is held right at the head goes out, too. */
  #emitNext(): void {
    while (this.#held[this.head] === 1) this.#held[this.head++] = 0;
    this.pending = Math.max(this.pending, this.head);
  }

  /** Brings the head to `end`: held bytes go out as they are, all others as zeroes. */
  #advanceTo(end: number): void {
    for (let at = this.head; at < end; at++) {
      if (this.#held[at] === 1) this.#held[at] = 0;
      else {
        this.disk[at] = 0;
        this.#gap[at] = 1;
      }
    }
    this.head = Math.max(this.head, end);
    this.pending = Math.max(this.pending, this.head);
  }

  /** Blocks in which something is held, were [offset, end) held as well. */
  #blocksWith(offset: number, end: number): number {
    let blocks = 0;
    for (let start = 0; start < this.#sectors; start += BLOCK) {
      const stop = start + BLOCK;
      const wanted = offset < stop && end > start;
      if (wanted || this.#held.subarray(start, stop).includes(1)) blocks++;
    }
    return blocks;
  }
}
