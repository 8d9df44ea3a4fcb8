/** A connection's incoming bytes, from the socket to the parser. */
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory } from "../../ffi/memory.ts";
import { recv } from "../../ffi/socket.ts";
import { CALLED, INPUT_ENDED, type Step, WAIT_INPUT } from "./step.ts";
import { keepFromFtl } from "./no-ftl.ts";

/**
 * The smallest payload, in bytes, that goes by splice(2). For smaller ones, one large read for many requests
 * and one write for their payloads, or replies, cost less.
 */
export const SPLICE_MIN = 32 * 1024;

/** Bytes that one recv(2) takes when requests are small. */
const BUFFER_SIZE = 1024 * 1024;

/** Buffers kept for the next connection that needs one; the rest is garbage. */
const SPARE = 2;

const NOTHING = new DataView(new ArrayBuffer(0));

/** Receive buffers, shared by all connections; an idle connection has none. */
export class BufferPool {
  readonly #spare: Memory[] = [];

  /** A buffer of BUFFER_SIZE bytes, not cleared. */
  take(): Memory {
    return this.#spare.pop() ?? new Memory(BUFFER_SIZE);
  }

  give(buffer: Memory): void {
    if (buffer.length === BUFFER_SIZE && this.#spare.length < SPARE) this.#spare.push(buffer);
  }
}

/** Holds a buffer of the pool while there is something in it. */
export class Input {
  /** Payloads stay in the socket, for splice(2): between requests, only a header is received. */
  headersOnly = false;
  readonly #fd: number;
  readonly #pool: BufferPool;
  readonly #headerSize: number;
  #buffer: Memory | undefined;
  #start = 0;
  #end = 0;
  /** A part of a request header, kept without a buffer until the rest comes. */
  #carry: Uint8Array | undefined;

  /**
   * @param headerSize bytes of a request's header
   * @param leftover bytes that were received before this object took over
   */
  constructor(fd: number, pool: BufferPool, headerSize: number, leftover: Uint8Array) {
    keepFromFtl(Input, this.#room);
    this.#fd = fd;
    this.#pool = pool;
    this.#headerSize = headerSize;
    this.#end = leftover.length;
    if (leftover.length > BUFFER_SIZE) {
      this.#buffer = new Memory(leftover);
    } else if (leftover.length > 0) {
      this.#buffer = pool.take();
      this.#buffer.bytes.set(leftover);
    }
  }

  /** Bytes received and not consumed. */
  get available(): number {
    return this.#end - this.#start;
  }

  /** Index of the first available byte in {@link view}. */
  get position(): number {
    return this.#start;
  }

  /** The buffer; valid until the next {@link receive} or {@link release}. */
  get view(): DataView {
    return this.#buffer?.view ?? NOTHING;
  }

  /** Memory address of the first available byte; valid as long as {@link view}. */
  get address(): number {
    return this.#buffer?.at(this.#start) ?? 0;
  }

  /** The first `length` available bytes; valid as long as {@link view}. */
  peek(length: number): Uint8Array {
    return this.#buffer?.bytes.subarray(this.#start, this.#start + length) ?? new Uint8Array(0);
  }

  consume(length: number): void {
    this.#start += length;
  }

  /** True when a request header is {@link available}. */
  get hasHeader(): boolean {
    return this.available >= this.#headerSize;
  }

  consumeHeader(): void {
    this.#start += this.#headerSize;
  }

  /** Receives requests, or the rest of a header. @returns the same as {@link receive} */
  receiveRequests(): number {
    return this.receive(this.headersOnly ? this.#headerSize - this.available : undefined);
  }

  /** Receives more of a payload, as a step of a request. */
  receivePayload(): Step {
    const n = this.receive();
    if (n === WOULD_BLOCK) return WAIT_INPUT;
    return n > 0 ? CALLED : INPUT_ENDED;
  }

  /**
   * Receives what the socket has, up to `limit` bytes or the room in the buffer. Moves the available bytes
   * to the front of the buffer, so no address of them may be in use.
   *
   * @returns bytes received, 0 when the client has finished, or WOULD_BLOCK
   * @throws SyscallError when the connection is lost
   */
  receive(limit = Number.POSITIVE_INFINITY): number {
    const buffer = this.#room();
    const n = recv(this.#fd, buffer.at(this.#end), Math.min(limit, buffer.length - this.#end));
    if (n > 0) this.#end += n;
    return n;
  }

  #room(): Memory {
    let buffer = this.#buffer;
    if (buffer === undefined) {
      buffer = this.#buffer = this.#pool.take();
      // Some of it may have been consumed meanwhile, as part of an unwanted payload.
      const carry = this.#carry?.subarray(this.#start, this.#end);
      this.#carry = undefined;
      this.#start = 0;
      this.#end = carry?.length ?? 0;
      if (carry !== undefined) buffer.bytes.set(carry);
    } else if (this.#start > 0) {
      buffer.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return buffer;
  }

  /** Gives the buffer back if it holds less than a header. No address of it may be in use. */
  release(): void {
    const buffer = this.#buffer;
    if (buffer === undefined || this.hasHeader) return;
    if (this.available > 0) this.#carry = new Uint8Array(this.peek(this.available));
    this.#end = this.available;
    this.#start = 0;
    this.#buffer = undefined;
    this.#pool.give(buffer);
  }
}
