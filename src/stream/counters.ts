/** Progress figures that the stream thread writes and the main thread reads at any time. */

const DATA = 0;
const ZEROES = 1;
const ENDPOINT_AWAITED = 2;
const SPOOLED = 3;
const MOST_SPOOLED = 4;
const STORED = 5;
const FIELDS = 6;

/**
 * Bytes that have moved, by kind. They sit in shared memory as doubles: an aligned 8-byte store is not torn
 * on the machines that the program runs on, and a double is exact up to 8 PiB.
 */
export class Counters {
  readonly #values: Float64Array;

  /** @param buffer {@link Counters.buffer} of the other thread; without it, a new one */
  constructor(readonly buffer = new SharedArrayBuffer(FIELDS * 8)) {
    this.#values = new Float64Array(buffer);
  }

  /** Bytes that came from a client, or from the source. */
  get data(): number {
    return this.#values[DATA] as number;
  }

  /** Zeroes for gaps, WRITE_ZEROES and padding. */
  get zeroes(): number {
    return this.#values[ZEROES] as number;
  }

  /** Bytes that the sink has accepted, or that clients have got: the position of the stream. */
  get emitted(): number {
    return this.data + this.zeroes;
  }

  /**
   * A request, or the end of the stream, waits for the endpoint. In a stream that moves it changes all the
   * time, so it is meaningful only while the stream does not move.
   */
  get endpointAwaited(): boolean {
    return this.#values[ENDPOINT_AWAITED] === 1;
  }

  set endpointAwaited(awaited: boolean) {
    this.#values[ENDPOINT_AWAITED] = awaited ? 1 : 0;
  }

  /** Bytes on the disk that the spool takes. */
  get spooled(): number {
    return this.#values[SPOOLED] as number;
  }

  set spooled(bytes: number) {
    this.#values[SPOOLED] = bytes;
    if (bytes > this.mostSpooled) this.#values[MOST_SPOOLED] = bytes;
  }

  /** The most of {@link spooled} so far. */
  get mostSpooled(): number {
    return this.#values[MOST_SPOOLED] as number;
  }

  /** Bytes that have been written into the spool so far, also over others. */
  get stored(): number {
    return this.#values[STORED] as number;
  }

  addStored(bytes: number): void {
    this.#values[STORED] = this.stored + bytes;
  }

  addData(bytes: number): void {
    this.#values[DATA] = this.data + bytes;
  }

  addZeroes(bytes: number): void {
    this.#values[ZEROES] = this.zeroes + bytes;
  }
}
