/** The socket of one connection: its input, its replies, and the request that is served. */
import { NBD_CMD_FLAG_REQ_ONE, NBD_STATE_HOLE, NBD_STATE_ZERO } from "../protocol/constants.ts";
import { BLOCK_SIZE } from "../protocol/export.ts";
import { add, min, type Offset, subtract } from "../protocol/offset.ts";
import { Request } from "../protocol/request.ts";
import { type BufferPool, Input } from "./input.ts";
import type { NegotiatedConnection } from "./messages.ts";
import { BytesBody, Replies } from "./replies.ts";
import { MORE, type Step } from "./step.ts";

/** The state that a connection and its request handler share. */
export class Channel {
  /** The client sends nothing more; it may still take replies. */
  halfClosed = false;
  /** The client is gone, and takes no replies either. */
  gone = false;
  /** A connection that began later has moved the stream, and this one has not since. */
  stale = false;
  /** The client has come back on another connection, so this one ends. */
  replaced = false;
  /** Bytes still to come of a payload that is discarded. */
  unwanted = 0;

  readonly fd: number;
  readonly input: Input;
  readonly replies: Replies;
  /** The request that is being served. */
  readonly request: Request;
  /** The reply to the request once its payload has been discarded. */
  #refusal = 0;

  /**
   * @param id connections are numbered as they begin
   * @param capacity bytes of replies that are collected before they have to be sent
   */
  constructor(
    readonly id: number,
    { fd, leftover, negotiated }: NegotiatedConnection,
    pool: BufferPool,
    capacity: number,
  ) {
    this.fd = fd;
    this.request = new Request(negotiated.extended);
    this.input = new Input(fd, pool, this.request.headerSize, leftover);
    this.replies = new Replies(fd, capacity, negotiated);
  }

  /** Replies to the current request; not for READ and BLOCK_STATUS. */
  reply(error: number): void {
    this.replies.done(this.request, error);
  }

  /** Replies with an error to the current request, once its payload has been discarded. */
  refuse(error: number): void {
    this.unwanted = this.request.payload;
    this.#refusal = error;
    if (this.unwanted === 0) this.reply(error);
  }

  /** Discards a part of the payload; only while there is something {@link unwanted}. */
  discardUnwanted(): Step {
    const { input } = this;
    const n = Math.min(this.unwanted, input.available);
    if (n === 0) return input.receivePayload();
    input.consume(n);
    this.unwanted -= n;
    if (this.unwanted === 0) this.reply(this.#refusal);
    return MORE;
  }

  /** True when the current request has no flags but these. */
  allows(flags: number): boolean {
    return (this.request.flags & ~flags) === 0;
  }

  /** True for a READ with valid flags and length, at any offset. */
  get isValidRead(): boolean {
    return this.allows(this.replies.readFlags) && this.request.length <= BLOCK_SIZE.maximum;
  }

  /** Replies to a READ ahead of the stream. @param held a copy of what the window has of it; undefined is zeroes */
  replyRead(held: Uint8Array | undefined): void {
    const { request, replies } = this;
    const { offset, length } = request;
    if (length === 0 || held === undefined) {
      replies.zeroes(request);
    } else {
      replies.data(request, offset, held.length, true);
      replies.follow(new BytesBody(held));
    }
  }

  /**
   * Replies to a BLOCK_STATUS.
   *
   * @param size of the disk, in bytes
   * @param fua NBD_CMD_FLAG_FUA where it is offered, which every command has to accept then; else 0
   * @param dataAt whether there is data at an offset, or zeroes, and up to where; undefined is the end
   */
  replyBlockStatus(
    size: Offset,
    fua: number,
    dataAt: (offset: Offset) => readonly [data: boolean, until: Offset | undefined],
  ): void {
    const { request, replies } = this;
    const { offset, length } = request;
    const end = add(offset, length);
    const { allocation } = replies.negotiated;
    if (!allocation || length === 0 || !this.allows(NBD_CMD_FLAG_REQ_ONE | fua) || end > size) {
      replies.refuseInvalid(request);
      return;
    }
    const [data, until] = dataAt(offset);
    const extent = subtract(min(end, until ?? end), offset);
    replies.blockStatus(request, extent, data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
  }
}
