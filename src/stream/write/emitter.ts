/** The queue to the sink, and the WRITEs that wait for it. */
import { IOV_MAX } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { IoVec } from "../../../ffi/memory.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { RequestKey } from "../../protocol/reply.ts";
import type { Counters } from "../counters.ts";
import type { SpoolFile } from "../spool-file.ts";
import { keepFromFtl } from "../no-ftl.ts";

/** The most zeroes per flush: in a gap of any length, the loop has to notice signals and hang-ups. */
const ZEROES_PER_FLUSH = 64 * 1024 * 1024;

/** The most bytes of a file per flush, for the same reason. */
const FILE_PER_FLUSH = 64 * 1024 * 1024;

/**
 * The order of emission is fixed: first a gap of zeroes, then bytes from a file, then bytes from memory, then
 * bytes spliced from a socket. Each part starts only when the sink has all of the one before.
 */
export class Emitter {
  /** False from the moment the sink would have blocked until poll(2) says that it takes more. */
  ready = false;
  #gap: Offset = 0;
  /** The file that {@link pushFile} has named, the position of its next byte, and how many there are. */
  #file: SpoolFile | undefined;
  #fileAt: Offset = 0;
  #fileLeft: Offset = 0;
  readonly #vector = new IoVec(IOV_MAX);
  #queued = 0;
  /** Of {@link queued}, those that have got their reply: they are emitted even if their client is lost. */
  #answered = 0;
  /** The sink holds zeroes, not data. */
  #heldZeroes = false;

  constructor(
    readonly sink: Sink,
    readonly counters: Counters,
  ) {
    keepFromFtl(Emitter);
  }

  /** True when nothing waits to be emitted. */
  get idle(): boolean {
    const { remaining } = this.#vector;
    return this.#gap === 0 && this.#fileLeft === 0 && remaining === 0 && this.sink.held === 0;
  }

  /** Bytes that are queued and that the sink has not taken. */
  get backlog(): Offset {
    return add(add(this.#gap, this.#fileLeft), this.#vector.remaining);
  }

  /** Zeroes that wait to be emitted. */
  get gap(): Offset {
    return this.#gap;
  }

  /** True when no more bytes from memory can be queued before a {@link flush}. */
  get full(): boolean {
    return this.#vector.full;
  }

  /** Bytes from memory queued since the queue was last empty. */
  get queued(): number {
    return this.#queued;
  }

  /** Of {@link queued}, those that the sink has accepted; -1 while it still holds older bytes. */
  get accepted(): number {
    return this.sink.held > 0 ? -1 : this.#queued - this.#vector.remaining;
  }

  /** The queue came out of the window, and got its replies when it got there. */
  markAnswered(): void {
    this.#answered = this.#queued;
  }

  /**
   * Drops queued bytes without a reply: their client is gone, and sends them again if it comes back.
   *
   * @returns how many zeroes and bytes were dropped
   */
  dropUnanswered(): { gap: Offset; bytes: number } {
    const accepted = this.#queued - this.#vector.remaining;
    const bytes = this.#queued - Math.max(accepted, this.#answered);
    this.#vector.dropLast(bytes);
    this.#queued -= bytes;
    // Zeroes are a gap before the bytes, or before those of a file, which have got their replies.
    const gap = this.#vector.remaining === 0 && this.#fileLeft === 0 ? this.#gap : 0;
    this.#gap = subtract(this.#gap, gap);
    return { gap, bytes };
  }

  /** Queues zeroes; only while idle. */
  pushZeroes(length: Offset): void {
    this.#gap = length;
  }

  /** Queues [at, at + length) of a file, behind zeroes at most; it must not change until the sink has it. */
  pushFile(file: SpoolFile, at: Offset, length: Offset): void {
    this.#file = file;
    this.#fileAt = at;
    this.#fileLeft = length;
    file.seek(at);
  }

  /** Queues bytes from memory, which must not change until the sink has them. */
  pushBytes(address: number, length: number): void {
    this.#vector.push(address, length);
    this.#queued += length;
  }

  /**
   * Gives the sink what is queued.
   *
   * @returns true when the sink has all of it; false when the sink would block (`ready` is false then) or
   *   other connections have their turn first (`ready` stays true)
   * @throws EndpointError
   */
  flush(): boolean {
    if (this.idle) return true;
    if (!this.ready || !this.#flushHeld() || !this.#flushGap() || !this.#flushFile()) return false;
    while (this.#vector.remaining > 0) {
      const n = this.sink.writev(this.#vector);
      if (n === WOULD_BLOCK) {
        this.ready = false;
        return false;
      }
      this.#vector.consume(n);
      this.counters.addData(n);
    }
    return true;
  }

  #flushGap(): boolean {
    let budget = ZEROES_PER_FLUSH;
    while (this.#gap !== 0) {
      if (budget <= 0) return false;
      const n = this.sink.zeroes(Number(min(this.#gap, budget)));
      if (n === WOULD_BLOCK) {
        this.ready = false;
        return false;
      }
      this.#gap = subtract(this.#gap, n);
      budget -= n;
      this.#taken(n, true);
      if (!this.#flushHeld()) return false;
    }
    return true;
  }

  #flushFile(): boolean {
    if (this.#fileLeft === 0) return true;
    const file = this.#file as SpoolFile;
    for (let budget = FILE_PER_FLUSH; this.#fileLeft > 0;) {
      if (budget <= 0) return false;
      const length = Number(min(this.#fileLeft, budget));
      const n = file.give((fd) => this.sink.spliceFile(fd, length));
      if (n === WOULD_BLOCK) {
        this.ready = false;
        return false;
      }
      budget -= n;
      this.#fileAt = add(this.#fileAt, n);
      this.#fileLeft = subtract(this.#fileLeft, n);
      this.#taken(n, false);
      if (!this.#flushHeld()) return false;
      file.release(this.#fileAt);
    }
    return true;
  }

  #flushHeld(): boolean {
    const before = this.sink.held;
    if (before === 0) return true;
    try {
      this.ready = this.sink.flush();
    } finally {
      // A sink may take a part before it fails.
      this.#count(before - this.sink.held, this.#heldZeroes);
    }
    return this.ready;
  }

  /** Counts bytes that the sink has taken, without those that it holds. */
  #taken(length: number, zeroes: boolean): void {
    this.#heldZeroes = zeroes;
    this.#count(length - this.sink.held, zeroes);
  }

  #count(length: number, zeroes: boolean): void {
    if (zeroes) this.counters.addZeroes(length);
    else this.counters.addData(length);
  }

  /** Restarts positions in the queue at 0, when the sink has all of it. */
  reset(): void {
    this.#queued = 0;
    this.#answered = 0;
  }

  /**
   * Moves up to `length` bytes from a socket; only while idle and ready.
   *
   * @returns the same as `Sink.splice`; WOULD_BLOCK also clears `ready`, since either side may block
   */
  splice(socket: number, length: number): number {
    const n = this.sink.splice(socket, length);
    if (n === WOULD_BLOCK) this.ready = false;
    else this.#taken(n, false);
    return n;
  }

  /** Drops what is queued: the stream is broken. */
  clear(): void {
    this.#gap = 0;
    this.#fileLeft = 0;
    this.#vector.clear();
    this.reset();
    this.ready = false;
  }
}

/** As many WRITEs as fit into the queue: each takes at least one entry of the vector. */
const MOST_UNANSWERED = IOV_MAX;

/**
 * The WRITEs of a connection that are queued and not replied to, in order, each with the position in the
 * queue where its payload ends. As a {@link RequestKey} it is the key of the first.
 */
export class UnansweredWrites implements RequestKey {
  readonly #cookies = new Uint32Array(2 * MOST_UNANSWERED);
  /** Grows to the longest list that there was. */
  readonly #offsets: Offset[] = [];
  readonly #due = new Float64Array(MOST_UNANSWERED);
  #first = 0;
  #end = 0;

  get count(): number {
    return this.#end - this.#first;
  }

  /** True when no more fits before the list has been emptied. */
  get full(): boolean {
    return this.#end === MOST_UNANSWERED;
  }

  /** @param due position in the queue where the payload ends */
  push({ cookieHigh, cookieLow, offset }: RequestKey, due: number): void {
    const at = this.#end++;
    this.#cookies[2 * at] = cookieHigh;
    this.#cookies[2 * at + 1] = cookieLow;
    this.#offsets[at] = offset;
    this.#due[at] = due;
  }

  /** Position at which the first of the list is due; Infinity when there is none. */
  get nextDue(): number {
    return this.#first < this.#end ? (this.#due[this.#first] as number) : Number.POSITIVE_INFINITY;
  }

  get cookieHigh(): number {
    return this.#cookies[2 * this.#first] as number;
  }

  get cookieLow(): number {
    return this.#cookies[2 * this.#first + 1] as number;
  }

  get offset(): Offset {
    return this.#offsets[this.#first] as Offset;
  }

  /** Drops the first. */
  shift(): void {
    this.#first++;
    if (this.#first === this.#end) {
      this.#first = 0;
      this.#end = 0;
    }
  }
}
