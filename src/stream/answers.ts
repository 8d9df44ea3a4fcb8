/** The answers to a connection's requests, in the form that was negotiated. */
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_EINVAL,
  NBD_OK,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_NONE,
  NBD_SIMPLE_REPLY_SIZE,
  NBD_STRUCTURED_CHUNK_SIZE,
} from "../protocol/constants.ts";
import { ALLOCATION_ID, type Negotiated } from "../protocol/export.ts";
import type { Offset } from "../protocol/offset.ts";
import { encodeSimpleReply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  encodeBlockStatus,
  encodeChunkHeader,
  encodeErrorChunk,
  encodeOffsetData,
  encodeOffsetHole,
  MAX_ERROR_CHUNK_SIZE,
  OFFSET_DATA_SIZE,
  OFFSET_HOLE_SIZE,
} from "../protocol/structured-reply.ts";
import { type Replies, ZeroBody } from "./replies.ts";

/** Room that any answer finds enough, its payload aside. */
export const LARGEST_ANSWER = MAX_ERROR_CHUNK_SIZE;

/** All methods want {@link LARGEST_ANSWER} bytes of room in the replies. */
export class Answers {
  constructor(
    readonly replies: Replies,
    readonly negotiated: Negotiated,
  ) {}

  /** The flags that a READ may have; NBD_CMD_FLAG_DF is for chunks only. */
  get readFlags(): number {
    return NBD_CMD_FLAG_FUA | (this.negotiated.structured ? NBD_CMD_FLAG_DF : 0);
  }

  /** A simple reply, which all commands but READ and BLOCK_STATUS get in any case. */
  simple(error: number, cookieHigh: number, cookieLow: number): void {
    const { memory, end } = this.replies;
    encodeSimpleReply(memory.view, end, error, cookieHigh, cookieLow);
    this.replies.added(NBD_SIMPLE_REPLY_SIZE);
  }

  /** The error that a READ or BLOCK_STATUS gets. @param message why, for clients that take it */
  refuse({ cookieHigh, cookieLow }: Request, error: number, message: string): void {
    if (!this.negotiated.structured) {
      this.simple(error, cookieHigh, cookieLow);
      return;
    }
    const { memory, end } = this.replies;
    this.replies.added(encodeErrorChunk(memory.view, end, cookieHigh, cookieLow, error, message));
  }

  /** A READ or BLOCK_STATUS that breaks the specification's rules. */
  refuseInvalid(request: Request): void {
    this.refuse(request, NBD_EINVAL, "the request is not valid");
  }

  /**
   * What goes before `length` bytes of a READ's data.
   *
   * @param offset of the data
   * @param last nothing of this READ follows it; a simple reply has only one part
   */
  data(request: Request, offset: Offset, length: number, last: boolean): void {
    const { cookieHigh, cookieLow } = request;
    if (!this.negotiated.structured) {
      this.simple(NBD_OK, cookieHigh, cookieLow);
      return;
    }
    const { memory, end } = this.replies;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    encodeOffsetData(memory.view, end, flags, cookieHigh, cookieLow, offset, length);
    this.replies.added(OFFSET_DATA_SIZE);
  }

  /** A part of a READ that is zeroes; only where structured replies were negotiated. */
  hole({ cookieHigh, cookieLow }: Request, offset: Offset, length: number, last: boolean): void {
    const { memory, end } = this.replies;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    encodeOffsetHole(memory.view, end, flags, cookieHigh, cookieLow, offset, length);
    this.replies.added(OFFSET_HOLE_SIZE);
  }

  /** All of a READ that is zeroes. */
  zeroes(request: Request): void {
    const { offset, length } = request;
    if (length === 0) {
      this.nothing(request);
    } else if (this.negotiated.structured) {
      this.hole(request, offset, length, true);
    } else {
      this.data(request, offset, length, true);
      this.replies.follow(new ZeroBody().start(length));
    }
  }

  /** A READ of nothing. */
  nothing({ cookieHigh, cookieLow }: Request): void {
    if (!this.negotiated.structured) {
      this.simple(NBD_OK, cookieHigh, cookieLow);
      return;
    }
    const { memory, end } = this.replies;
    const flags = NBD_REPLY_FLAG_DONE;
    encodeChunkHeader(memory.view, end, flags, NBD_REPLY_TYPE_NONE, cookieHigh, cookieLow, 0);
    this.replies.added(NBD_STRUCTURED_CHUNK_SIZE);
  }

  /** One extent of `base:allocation`. @param flags `NBD_STATE_*` bits */
  blockStatus({ cookieHigh, cookieLow }: Request, length: number, flags: number): void {
    const { memory, end } = this.replies;
    this.replies.added(
      encodeBlockStatus(memory.view, end, cookieHigh, cookieLow, ALLOCATION_ID, [
        { length, flags },
      ]),
    );
  }
}
