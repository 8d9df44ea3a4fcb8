/** The answers to a connection's requests, in the form that was negotiated. */
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
import { type Replies, ZeroBody } from "./replies.ts";

/** Room that any answer finds enough, its payload aside. */
export const LARGEST_ANSWER = MAX_ERROR_CHUNK_SIZE;

const INVALID = "the request is not valid";

/** What an error of a command that gives nothing back means, for clients that take a text with it. */
const MEANINGS = new Map([
  [NBD_EPERM, "the disk can only be read"],
  [NBD_EIO, "it has been streamed already, or the stream is broken"],
  [NBD_EINVAL, INVALID],
  [NBD_ENOSPC, "there is no room for it"],
  [NBD_ESHUTDOWN, "nobody takes the stream any more"],
]);

/** All methods want {@link LARGEST_ANSWER} bytes of room in the replies. */
export class Answers {
  readonly #extended: boolean;

  constructor(
    readonly replies: Replies,
    readonly negotiated: Negotiated,
  ) {
    this.#extended = negotiated.extended;
  }

  /** The flags that a READ may have; NBD_CMD_FLAG_DF is for chunks only. */
  get readFlags(): number {
    return NBD_CMD_FLAG_FUA | (this.negotiated.structured ? NBD_CMD_FLAG_DF : 0);
  }

  /** The answer to a command that gives nothing back, as all but READ and BLOCK_STATUS. */
  done(key: RequestKey, error: number): void {
    // Without extended headers these have simple replies in any case.
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
   * What goes before `length` bytes of a READ's data.
   *
   * @param offset of the data
   * @param last nothing of this READ follows it; a simple reply has only one part
   */
  data(key: RequestKey, offset: Offset, length: number, last: boolean): void {
    if (!this.negotiated.structured) {
      this.#simple(key, NBD_OK);
      return;
    }
    const { memory, end } = this.replies;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    this.replies.added(
      encodeOffsetData(memory.view, end, this.#extended, flags, key, offset, length),
    );
  }

  /** A part of a READ that is zeroes; only where structured replies were negotiated. */
  hole(key: RequestKey, offset: Offset, length: number, last: boolean): void {
    const { memory, end } = this.replies;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    this.replies.added(
      encodeOffsetHole(memory.view, end, this.#extended, flags, key, offset, length),
    );
  }

  /** All of a READ that is zeroes. */
  zeroes(request: Request): void {
    const { offset } = request;
    const length = Number(request.length);
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
  nothing(key: RequestKey): void {
    if (this.negotiated.structured) this.#nothing(key);
    else this.#simple(key, NBD_OK);
  }

  /** One extent of `base:allocation`. @param flags `NBD_STATE_*` bits */
  blockStatus(key: RequestKey, length: Offset, flags: number): void {
    const { memory, end } = this.replies;
    const extents = [{ length, flags }];
    this.replies.added(
      encodeBlockStatus(memory.view, end, this.#extended, key, ALLOCATION_ID, extents),
    );
  }

  #simple({ cookieHigh, cookieLow }: RequestKey, error: number): void {
    const { memory, end } = this.replies;
    encodeSimpleReply(memory.view, end, error, cookieHigh, cookieLow);
    this.replies.added(NBD_SIMPLE_REPLY_SIZE);
  }

  #error(key: RequestKey, error: number, message: string): void {
    const { memory, end } = this.replies;
    this.replies.added(encodeErrorChunk(memory.view, end, this.#extended, key, error, message));
  }

  #nothing(key: RequestKey): void {
    const { memory, end } = this.replies;
    const [flags, type] = [NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE];
    this.replies.added(encodeChunkHeader(memory.view, end, this.#extended, flags, type, key, 0));
  }
}
