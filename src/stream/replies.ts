/** Encodes a connection's replies, in the negotiated form, and sends them. */
import { MSG_MORE } from "../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory } from "../../ffi/memory.ts";
import { send } from "../../ffi/socket.ts";
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_ESHUTDOWN,
  NBD_OK,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_NONE,
  NBD_SIMPLE_REPLY_SIZE,
} from "../protocol/constants.ts";
import { ALLOCATION_ID, type Negotiated } from "../protocol/export.ts";
import type { Offset } from "../protocol/offset.ts";
import {
  encodeBlockStatus,
  encodeChunkHeader,
  encodeErrorChunk,
  encodeOffsetData,
  encodeOffsetHole,
  encodeSimpleReply,
  MAX_ERROR_CHUNK_SIZE,
  type RequestKey,
} from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { CALLED, MORE, type Step, WAIT_OUTPUT } from "./step.ts";
import { keepFromFtl } from "./no-ftl.ts";

/** A payload that is too large to be copied behind its reply. */
export interface Body {
  /**
   * Sends as much as the socket takes.
   *
   * @returns true when all is sent, false when the socket takes no more now
   * @throws SyscallError when the client is gone
   */
  send(fd: number): boolean;
  /** It is sent, or nobody takes it any more. */
  free?(): void;
}

/** The most bytes of a READ's data that are copied behind their header; more is a {@link Body}. */
export const INLINE_MAX = 64 * 1024;

/** The most bytes of a reply without its payload. */
const LARGEST_REPLY = MAX_ERROR_CHUNK_SIZE;

const INVALID = "the request is not valid";

/** The text for a READ of what has gone by. */
export const STREAMED_ALREADY = "it has been streamed already";

/** The text for a READ or BLOCK_STATUS of a spool that has failed. */
export const SPOOL_UNREADABLE = "the spool cannot be read";

/** The texts of errors, for clients with extended headers; not for READ and BLOCK_STATUS. */
const MEANINGS = new Map([
  [NBD_EPERM, "the disk can only be read"],
  [NBD_EIO, `${STREAMED_ALREADY}, or the stream is broken`],
  [NBD_EINVAL, INVALID],
  [NBD_ENOSPC, "there is no room for it"],
  [NBD_ESHUTDOWN, "nobody takes the stream any more"],
]);

/** Sends replies that are due together in one send(2). */
export class Replies {
  readonly #fd: number;
  readonly #capacity: number;
  /** Allocated when first needed, so that idle connections take none. */
  #memory: Memory | undefined;
  #start = 0;
  #end = 0;
  #body: Body | undefined;
  readonly #extended: boolean;

  /** @param capacity bytes collected before they have to be sent */
  constructor(
    fd: number,
    capacity: number,
    readonly negotiated: Negotiated,
  ) {
    keepFromFtl(Replies, this.#send, this.#simple);
    this.#fd = fd;
    this.#capacity = capacity;
    this.#extended = negotiated.extended;
  }

  /** True when nothing waits to be sent. */
  get empty(): boolean {
    return this.#start === this.#end && this.#body === undefined;
  }

  /** True while a payload that follows a reply is being sent. */
  get inBody(): boolean {
    return this.#body !== undefined;
  }

  /** Bytes that may be added before {@link flush} has to send all. */
  get room(): number {
    return this.#body === undefined ? this.#capacity - this.#end : 0;
  }

  /**
   * Makes room for at least one reply, which all methods that add one need.
   *
   * @param length bytes of payload that are to be copied behind it
   * @returns MORE when there is room
   */
  makeRoom(length = 0): Step {
    if (this.room >= LARGEST_REPLY + length) return MORE;
    return this.flush() ? CALLED : WAIT_OUTPUT;
  }

  /** The buffer: what is to be added is written at {@link end}, as much as there is {@link room}. */
  get memory(): Memory {
    return (this.#memory ??= new Memory(this.#capacity));
  }

  /** Where in {@link memory} the next bytes belong. */
  get end(): number {
    return this.#end;
  }

  /** @param length bytes that have been written at {@link end} */
  added(length: number): void {
    // A length that was computed from offsets is a floating-point number to the compiler, and as an index
    // into a DataView it would make compiled code give up and start again for each reply.
    this.#end = (this.#end + length) | 0;
  }

  /** Sends a payload behind the last bytes added; nothing more may be added before it is sent. */
  follow(body: Body): void {
    this.#body = body;
  }

  /**
   * Sends the collected replies. A client that takes no replies any more may still have sent requests,
   * NBD_CMD_DISC among them. Its replies are dropped, and reading finds the end of its requests.
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
      this.#freeBody();
      return true;
    }
  }

  /** Nothing is sent any more. */
  close(): void {
    this.#freeBody();
  }

  #freeBody(): void {
    this.#body?.free?.();
    this.#body = undefined;
  }

  #send(): boolean {
    const memory = this.#memory;
    // If a body follows, the header alone is not worth a TCP segment.
    const flags = this.#body === undefined ? 0 : MSG_MORE;
    while (memory !== undefined && this.#start < this.#end) {
      const n = send(this.#fd, memory.at(this.#start), this.#end - this.#start, flags);
      if (n === WOULD_BLOCK) return false;
      this.#start += n;
    }
    this.#start = 0;
    this.#end = 0;
    if (this.#body === undefined) return true;
    if (!this.#body.send(this.#fd)) return false;
    this.#freeBody();
    return true;
  }

  /** The flags that a READ may have; NBD_CMD_FLAG_DF is for chunks only. */
  get readFlags(): number {
    return NBD_CMD_FLAG_FUA | (this.negotiated.structured ? NBD_CMD_FLAG_DF : 0);
  }

  /** The reply to a command without data in its reply: all but READ and BLOCK_STATUS. */
  done(key: RequestKey, error: number): void {
    // Without extended headers, these always have simple replies.
    if (!this.#extended) this.#simple(key, error);
    else if (error === NBD_OK) this.#nothing(key);
    else this.#error(key, error, MEANINGS.get(error) ?? "");
  }

  /** The error that a READ or BLOCK_STATUS gets. @param message why, for clients that take it */
  refuse(key: RequestKey, error: number, message: string): void {
    if (this.negotiated.structured) this.#error(key, error, message);
    else this.#simple(key, error);
  }

  /** A READ or BLOCK_STATUS that breaks the specification's rules. */
  refuseInvalid(key: RequestKey): void {
    this.refuse(key, NBD_EINVAL, INVALID);
  }

  /**
   * The header of `length` bytes of a READ's data.
   *
   * @param offset of the data
   * @param last nothing of this READ follows it; a simple reply has only one part
   */
  data(key: RequestKey, offset: Offset, length: number, last: boolean): void {
    if (!this.negotiated.structured) {
      this.#simple(key, NBD_OK);
      return;
    }
    const { memory, end } = this;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    this.added(encodeOffsetData(memory.view, end, this.#extended, flags, key, offset, length));
  }

  /** A part of a READ that is zeroes; only where structured replies were negotiated. */
  hole(key: RequestKey, offset: Offset, length: number, last: boolean): void {
    const { memory, end } = this;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    this.added(encodeOffsetHole(memory.view, end, this.#extended, flags, key, offset, length));
  }

  /** A READ that is all zeroes. */
  zeroes(request: Request): void {
    const { offset } = request;
    const length = Number(request.length);
    if (length === 0) {
      this.nothing(request);
    } else if (this.negotiated.structured) {
      this.hole(request, offset, length, true);
    } else {
      this.data(request, offset, length, true);
      this.follow(new ZeroBody().start(length));
    }
  }

  /** A READ of no bytes. */
  nothing(key: RequestKey): void {
    if (this.negotiated.structured) this.#nothing(key);
    else this.#simple(key, NBD_OK);
  }

  /** One extent of `base:allocation`. @param flags `NBD_STATE_*` bits */
  blockStatus(key: RequestKey, length: Offset, flags: number): void {
    const { memory, end } = this;
    const extents = [{ length, flags }];
    this.added(encodeBlockStatus(memory.view, end, this.#extended, key, ALLOCATION_ID, extents));
  }

  #simple({ cookieHigh, cookieLow }: RequestKey, error: number): void {
    const { memory, end } = this;
    encodeSimpleReply(memory.view, end, error, cookieHigh, cookieLow);
    this.added(NBD_SIMPLE_REPLY_SIZE);
  }

  #error(key: RequestKey, error: number, message: string): void {
    const { memory, end } = this;
    this.added(encodeErrorChunk(memory.view, end, this.#extended, key, error, message));
  }

  #nothing(key: RequestKey): void {
    const { memory, end } = this;
    const [flags, type] = [NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE];
    this.added(encodeChunkHeader(memory.view, end, this.#extended, flags, type, key, 0));
  }
}

const zeroes = new Memory(256 * 1024);

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

/** Bytes in memory of their own, which is given back when they are sent. */
export class BytesBody implements Body {
  readonly #memory: Memory;
  #sent = 0;

  /** @param bytes all of a buffer, which nobody else uses */
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

  free(): void {
    this.#memory.free();
  }
}
