/** What READs of a stream that is read once should get, worked out the plain way. */

const EIO = 5;
const EINVAL = 22;
const SECTOR = 512;
const KEPT = 1024 * 1024;
const LARGEST = 32 * 1024 * 1024;

export interface Circumstances {
  readonly size: number;
  readonly window: number;
  readonly pad: boolean;
  readonly exact: boolean;
  /** The source has a process, which ends well or badly. */
  readonly process: "none" | "good" | "bad";
}

/** All of the source in memory, and one position. It knows nothing of pipes, chunks or blocks. */
export class ReadModel {
  head = 0;
  needed = 0;
  /** Why the stream is broken. */
  code: string | undefined;
  /** What the whole disk would be, if it could be had. */
  readonly disk: Buffer;
  readonly #given: Circumstances;

  constructor(
    readonly source: Buffer,
    given: Circumstances,
  ) {
    this.#given = given;
    this.disk = Buffer.alloc(Math.ceil(given.size / SECTOR) * SECTOR);
    source.copy(this.disk, 0, 0, given.size);
  }

  /** @returns the error, or what the client reads */
  read(offset: number, length: number): number | Buffer {
    const { size, window, pad, exact, process } = this.#given;
    const end = offset + length;
    if (end > this.disk.length || length > LARGEST) return EINVAL;
    if (this.code !== undefined) return EIO;
    if (length === 0) return Buffer.alloc(0);
    const goneFrom = KEPT;
    const goneTo = this.head - window;
    if (Math.max(offset, goneFrom) < Math.min(end, goneTo)) return this.#break("BACKWARD_READ");
    const back = Math.max(offset, KEPT);
    if (back < Math.min(end, this.head)) this.needed = Math.max(this.needed, this.head - back);
    const short = this.source.length < Math.min(end, size);
    if (short && process === "bad") return this.#break("SOURCE_FAILED");
    if (short && !pad) return this.#break("SOURCE_ENDED");
    if (end >= size) {
      const surplus = this.source.length > size;
      if (surplus && exact) return this.#break("SURPLUS");
      if (!surplus && process === "bad") return this.#break("SOURCE_FAILED");
    }
    this.head = Math.max(this.head, Math.min(end, size));
    return this.disk.subarray(offset, end);
  }

  /** How the stream ends, when a part of it is enough or not. */
  verdict(partly: boolean): string | undefined {
    if (this.code === undefined && !partly && this.head < this.#given.size) return "TOO_SHORT";
    return this.code;
  }

  /** Bytes that the source has behind the stream's end, if they are to be told. */
  get surplus(): number | undefined {
    const surplus = this.source.length - this.#given.size;
    return this.head === this.#given.size && surplus > 0 ? surplus : undefined;
  }

  #break(code: string): number {
    this.code = code;
    return EIO;
  }
}
