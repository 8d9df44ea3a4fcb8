/** The client's side of a connection: what comes, what goes back, and what is waited for. */
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { NBD_CMD_FLAG_REQ_ONE, NBD_STATE_HOLE, NBD_STATE_ZERO } from "../protocol/constants.ts";
import { BLOCK_SIZE, type Negotiated } from "../protocol/export.ts";
import { add, min, type Offset, subtract } from "../protocol/offset.ts";
import { Request } from "../protocol/request.ts";
import { Answers, LARGEST_ANSWER } from "./answers.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { Input } from "./input.ts";
import { BytesBody, Replies } from "./replies.ts";

/** What a connection may have to wait for. */
export type Need = "input" | "output" | "endpoint" | "turn";

/** What a step of a connection's work came to. */
export type Step =
  /** There may be more to do. */
  | true
  /** There is something to wait for; the channel says what. */
  | false
  /** The client has finished in the middle of a payload. */
  | "end";

/** A connection as it comes out of negotiation. */
export interface NegotiatedConnection {
  readonly fd: number;
  /** What the client sent while it negotiated. */
  readonly leftover: Uint8Array;
  readonly negotiated: Negotiated;
}

/**
 * What the parts of a connection share. Work goes on until something has to be waited for; the
 * `needs…` fields then say what, all of it at once.
 */
export class Channel {
  /** The socket has to have something to read. */
  needsInput = false;
  /** The socket has to take more replies. */
  needsOutput = false;
  /** The endpoint has to take or give more. */
  needsEndpoint = false;
  /** Another connection's request has to be complete. */
  needsTurn = false;
  /** The client sends nothing more; it may still take replies. */
  halfClosed = false;
  /** The client is gone, and takes no replies either. */
  gone = false;
  /** Another connection that began later has moved the stream, and this one has not since. */
  superseded = false;
  /** The client has come back on another connection: nothing of this one counts any more. */
  replaced = false;
  /** Calls that move data that are left in this turn. */
  calls = 0;
  /** Bytes still to come of a payload that is not wanted. */
  unwanted = 0;
  /** The last WRITE was one for splice(2), and so will be the next: headers are read alone. */
  large = false;

  readonly fd: number;
  readonly input: Input;
  readonly replies: Replies;
  readonly answers: Answers;
  /** The request that is being served. */
  readonly request: Request;
  /** Bytes of a request's header. */
  readonly headerSize: number;
  /** The answer to the request once its payload has been thrown away. */
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
    this.headerSize = this.request.headerSize;
    this.input = new Input(fd, pool, this.headerSize, leftover);
    this.replies = new Replies(fd, capacity);
    this.answers = new Answers(this.replies, negotiated);
  }

  /** @returns false, for the caller to pass on: there is something to wait for */
  await(need: Need): false {
    if (need === "input") this.needsInput = true;
    else if (need === "output") this.needsOutput = true;
    else if (need === "endpoint") this.needsEndpoint = true;
    else this.needsTurn = true;
    return false;
  }

  /**
   * Makes room for at least one answer.
   *
   * @param length bytes of payload that are to be copied behind it
   * @returns false when there is something to wait for
   */
  makeRoom(length = 0): boolean {
    if (this.replies.room >= LARGEST_ANSWER + length) return true;
    this.calls--;
    return this.replies.flush() || this.await("output");
  }

  /** Answers the current request; not for READ and BLOCK_STATUS. */
  reply(error: number): void {
    this.answers.done(this.request, error);
  }

  /** True when the current request has no flags but these. */
  allows(flags: number): boolean {
    return (this.request.flags & ~flags) === 0;
  }

  /** Answers a READ of what has not gone by. @param held of it, where that is not only zeroes */
  answerRead(held: Uint8Array | undefined): void {
    const { request, answers, replies } = this;
    const { offset, length } = request;
    if (length === 0 || held === undefined) {
      answers.zeroes(request);
    } else {
      answers.data(request, offset, held.length, true);
      replies.follow(new BytesBody(held));
    }
  }

  /** True for a READ that keeps the specification's rules, wherever it leads. */
  get isValidRead(): boolean {
    const { readFlags } = this.answers;
    return this.allows(readFlags) && this.request.length <= BLOCK_SIZE.maximum;
  }

  /**
   * Answers a BLOCK_STATUS.
   *
   * @param size of the disk, in bytes
   * @param dataAt whether there is data at a place, or zeroes, and up to where; undefined is to the end
   */
  answerBlockStatus(
    size: Offset,
    dataAt: (offset: Offset) => readonly [data: boolean, until: Offset | undefined],
  ): void {
    const { request, answers } = this;
    if (!this.#asksBlockStatus(size)) {
      answers.refuseInvalid(request);
      return;
    }
    const end = add(request.offset, request.length);
    const [data, until] = dataAt(request.offset);
    const length = subtract(min(end, until ?? end), request.offset);
    answers.blockStatus(request, length, data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
  }

  /** True for a BLOCK_STATUS that can be answered. @param size of the disk, in bytes */
  #asksBlockStatus(size: Offset): boolean {
    const { offset, length } = this.request;
    const { allocation } = this.answers.negotiated;
    return (
      allocation && length > 0 && this.allows(NBD_CMD_FLAG_REQ_ONE) && add(offset, length) <= size
    );
  }

  /**
   * Takes more from the socket: in a payload as much as there is, between requests only a header if
   * the payload behind it is going to be spliced.
   *
   * @returns as `Input.receive`
   */
  receive(inPayload: boolean): number {
    const exact = this.large && !inPayload;
    this.calls--;
    return this.input.receive(exact ? this.headerSize - this.input.available : undefined);
  }

  /**
   * Throws away what has come of a payload that is not wanted.
   *
   * @param wanted the most bytes of it
   * @param look gets them before
   * @returns how many they were, at least one; or what the step comes to, when none have come
   */
  discard(wanted: number, look?: (bytes: Uint8Array) => void): number | false | "end" {
    if (this.input.available === 0) {
      const n = this.receive(true);
      if (n === WOULD_BLOCK) return this.await("input");
      if (n === 0) return "end";
    }
    const n = Math.min(wanted, this.input.available);
    look?.(this.input.peek(n));
    this.input.consume(n);
    return n;
  }

  /** Answers the current request with an error, once its payload has been thrown away. */
  refuse(error: number): void {
    this.unwanted = this.request.payload;
    this.#refusal = error;
    if (this.unwanted === 0) this.reply(error);
  }

  /** One step of throwing it away; only while there is something {@link unwanted}. */
  throwAway(): Step {
    const n = this.discard(this.unwanted);
    if (typeof n !== "number") return n;
    this.unwanted -= n;
    if (this.unwanted === 0) this.reply(this.#refusal);
    return true;
  }
}
