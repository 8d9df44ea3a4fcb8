/** What goes back to a client: replies, and the payload that follows the last of them. */
import { MSG_MORE } from "../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory } from "../../ffi/memory.ts";
import { send } from "../../ffi/socket.ts";

/** What follows a reply and is too large to be copied behind it. */
export interface Body {
  /**
   * Sends as much as the socket takes.
   *
   * @returns true when all is sent, false when the socket takes no more now
   * @throws SyscallError when the client is gone
   */
  send(fd: number): boolean;
}

/** A connection's outgoing bytes. Replies that are due together leave in one send(2). */
export class Replies {
  readonly #fd: number;
  readonly #capacity: number;
  /** Made when first needed: a connection that is idle from the start takes none. */
  #memory: Memory | undefined;
  #start = 0;
  #end = 0;
  #body: Body | undefined;

  /** @param capacity bytes collected before they have to be sent */
  constructor(fd: number, capacity: number) {
    this.#fd = fd;
    this.#capacity = capacity;
  }

  /** True when nothing waits to be sent. */
  get empty(): boolean {
    return this.#start === this.#end && this.#body === undefined;
  }

  /** True when an announced payload is not out yet. */
  get inBody(): boolean {
    return this.#body !== undefined;
  }

  /** Bytes that may be added before {@link flush} has to send all. */
  get room(): number {
    return this.#body === undefined ? this.#capacity - this.#end : 0;
  }

  /** The buffer: what is to be added is written at {@link end}, as much as there is {@link room}. */
  get memory(): Memory {
    return (this.#memory ??= new Memory(this.#capacity));
  }

  /** Where in {@link memory} the next bytes belong. */
  get end(): number {
    return this.#end;
  }

  /** So many bytes have been written at {@link end}. */
  added(length: number): void {
    this.#end += length;
  }

  /** What follows the last bytes added; nothing more may be added before it is sent. */
  follow(body: Body): void {
    this.#body = body;
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
      this.#body = undefined;
      return true;
    }
  }

  #send(): boolean {
    const memory = this.#memory;
    // With a body to come, a TCP segment for the header alone would be a waste.
    const flags = this.#body === undefined ? 0 : MSG_MORE;
    while (memory !== undefined && this.#start < this.#end) {
      const n = send(this.#fd, memory.at(this.#start), this.#end - this.#start, flags);
      if (n === WOULD_BLOCK) return false;
      this.#start += n;
    }
    this.#start = 0;
    this.#end = 0;
    if (this.#body !== undefined && !this.#body.send(this.#fd)) return false;
    this.#body = undefined;
    return true;
  }
}

const zeroes = new Memory(256 * 1024);

/** Zeroes. */
export class ZeroBody implements Body {
  #left = 0;

  /** @param length bytes */
  start(length: number): this {
    this.#left = length;
    return this;
  }

  send(fd: number): boolean {
    while (this.#left > 0) {
      const n = send(fd, zeroes.at(0), Math.min(this.#left, zeroes.length));
      if (n === WOULD_BLOCK) return false;
      this.#left -= n;
    }
    return true;
  }
}

/** Bytes that stay as they are until they are sent. */
export class BytesBody implements Body {
  readonly #memory: Memory;
  #sent = 0;

  constructor(bytes: Uint8Array) {
    this.#memory = new Memory(bytes);
  }

  send(fd: number): boolean {
    const memory = this.#memory;
    while (this.#sent < memory.length) {
      const n = send(fd, memory.at(this.#sent), memory.length - this.#sent);
      if (n === WOULD_BLOCK) return false;
      this.#sent += n;
    }
    return true;
  }
}
