/** What goes back to a client: simple replies, and the zeroes that READ gets. */
import { WOULD_BLOCK } from "../../ffi/errno.ts";
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

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** True when nothing waits to be sent. */
  get empty(): boolean {
    return this.#start === this.#end && this.#zeroes === 0;
  }

  /** True when no further reply may be added before {@link flush} has sent all. */
  get full(): boolean {
    return this.#zeroes > 0 || this.#end + NBD_SIMPLE_REPLY_SIZE > CAPACITY;
  }

  /** Collects a reply; only while not full. @param payload zeroes that follow it */
  add(error: number, cookieHigh: number, cookieLow: number, payload = 0): void {
    encodeSimpleReply(this.#memory.view, this.#end, error, cookieHigh, cookieLow);
    this.#end += NBD_SIMPLE_REPLY_SIZE;
    this.#zeroes = payload;
  }

  /**
   * Sends what has been collected.
   *
   * @returns true when all is sent, false when the socket takes no more now
   * @throws SyscallError when the client is gone
   */
  flush(): boolean {
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
    return true;
  }
}
