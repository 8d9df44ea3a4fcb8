/** What a stream with a spool should be, worked out the plain way: a disk in memory and one position. */

const OK = 0;
const EIO = 5;

/**
 * A byte array with notes for every byte. It knows nothing of memory, files, runs or queues; where the program is
 * clever, this is slow. Requests are done one after the other.
 */
export class SpoolModel {
  readonly disk: Uint8Array;
  /** The position of the first byte that is not in the stream yet. */
  head = 0;
  broken = false;
  /** 1 where a client has written. */
  readonly #written: Uint8Array;
  /** 1 where a client has asked for zeroes that fill a gap. */
  readonly #asked: Uint8Array;
  /** 1 where the stream has such zeroes. */
  readonly #gap: Uint8Array;
  /** False once a client has written into zeroes behind a gap: it zeroes first and writes later. */
  #zeroesFill = true;
  #end = 0;

  constructor(readonly size: number) {
    this.disk = new Uint8Array(size);
    this.#written = new Uint8Array(size);
    this.#asked = new Uint8Array(size);
    this.#gap = new Uint8Array(size);
  }

  /** @returns the error that the client gets */
  write(offset: number, data: Uint8Array): number {
    if (this.broken || offset < this.head) return this.#break();
    const end = offset + data.length;
    const intoZeroes = this.#asked.subarray(offset, end).includes(1);
    if (offset > this.head && intoZeroes) this.#zeroesFill = false;
    this.disk.set(data, offset);
    this.#written.fill(1, offset, end);
    this.#end = Math.max(this.#end, end);
    this.#advance();
    return OK;
  }

  /** @returns the error that the client gets */
  zero(offset: number, length: number): number {
    const end = offset + length;
    const late = this.#gap.subarray(offset, Math.min(end, this.head));
    if (this.broken || late.includes(0)) return this.#break();
    const from = Math.max(offset, this.head);
    if (from < end) this.disk.fill(0, from, end);
    if (from < end) this.#asked.fill(1, from, end);
    this.#end = Math.max(this.#end, end);
    this.#advance();
    return OK;
  }

  /** @returns the error, or what the client reads */
  read(offset: number, length: number): number | Uint8Array {
    return offset < this.head ? EIO : this.disk.slice(offset, offset + length);
  }

  /** Whether block status has data at this position. */
  isData(at: number): boolean {
    return at < this.head || this.#written[at] === 1;
  }

  /** All that comes out if the stream ends here. */
  finish(): Uint8Array {
    return this.disk.subarray(0, this.broken ? this.head : this.#end);
  }

  #break(): number {
    this.broken = true;
    return EIO;
  }

  /** Moves the head behind the data that is next, perhaps behind zeroes. */
  #advance(): void {
    for (;;) {
      const next = this.#written.indexOf(1, this.head);
      if (next < 0) return;
      const gap = this.#asked.subarray(this.head, next);
      if (gap.length > 0 && (!this.#zeroesFill || gap.includes(0))) return;
      this.#gap.fill(1, this.head, next);
      const end = this.#written.indexOf(0, next);
      this.head = end < 0 ? this.size : end;
    }
  }
}
