/** What goes back to a client: simple replies, and the zeroes that READ gets. */
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory } from "../../ffi/memory.ts";
import { send } from "../../ffi/socket.ts";
import { NBD_SIMPLE_REPLY_SIZE } from "../protocol/constants.ts";
import { encodeSimpleReply } from "../protocol/reply.ts";

/** Replies collected before they have to be sent; 512 requests of the smallest kind. */
const CAPACITY = 512 * NBD_SIMPLE_REPLY_SIZE;

const zeroes = new Memory(256 * 1024);

/** A connection's outgoing bytes. Replies that are due together leave in one send(2). */
export class Replies {
  readonly #fd: number;
  readonly #memory = new Memory(CAPACITY);
  #start = 0;
  #end = 0;
  /** Zeroes that follow the last reply collected. */
  #zeroes = 0;
  /** Bytes that follow it instead, and how many of them are sent. */
  #payload: Memory | undefined;
  #sent = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** True when nothing waits to be sent. */
  get empty(): boolean {
    return this.#start === this.#end && !this.#inPayload;
  }

  /** True when no further reply may be added before {@link flush} has sent all. */
  get full(): boolean {
    return this.#inPayload || this.#end + NBD_SIMPLE_REPLY_SIZE > CAPACITY;
  }

  get #inPayload(): boolean {
    return this.#zeroes > 0 || this.#payload !== undefined;
  }

  /**
   * Collects a reply; only while not full.
   *
   * @param payload what follows it: bytes, or a number of zeroes
   */
  add(
    error: number,
    cookieHigh: number,
    cookieLow: number,
    payload: Uint8Array | number = 0,
  ): void {
    encodeSimpleReply(this.#memory.view, this.#end, error, cookieHigh, cookieLow);
    this.#end += NBD_SIMPLE_REPLY_SIZE;
    if (typeof payload === "number") {
      this.#zeroes = payload;
    } else {
      this.#payload = new Memory(payload);
      this.#sent = 0;
    }
  }

  /**
   * Sends what has been collected. A client that takes no replies any more may still have sent
   * requests, its NBD_CMD_DISC among them: what is for it is thrown away, and reading tells the rest.
   *
   * @returns true when all is sent, false when the socket takes no more now
   */
  flush(): boolean {
    try {
      return this.#send();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#start = 0;
      this.#end = 0;
      this.#zeroes = 0;
      this.#payload = undefined;
      return true;
    }
  }

  #send(): boolean {
    while (this.#start < this.#end) {
      const n = send(this.#fd, this.#memory.at(this.#start), this.#end - this.#start);
      if (n === WOULD_BLOCK) return false;
      this.#start += n;
    }
    this.#start = 0;
    this.#end = 0;
    while (this.#zeroes > 0) {
      const n = send(this.#fd, zeroes.at(0), Math.min(this.#zeroes, zeroes.length));
      if (n === WOULD_BLOCK) return false;
      this.#zeroes -= n;
    }
    return this.#flushPayload();
  }

  #flushPayload(): boolean {
    const payload = this.#payload;
    if (payload === undefined) return true;
    while (this.#sent < payload.length) {
      const n = send(this.#fd, payload.at(this.#sent), payload.length - this.#sent);
      if (n === WOULD_BLOCK) return false;
      this.#sent += n;
    }
    this.#payload = undefined;
    return true;
  }
}
