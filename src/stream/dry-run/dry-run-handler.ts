/** The request handler of a dry run, which takes every WRITE and logs it. */
import { bytesReadable } from "../../../ffi/fd.ts";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_OK,
} from "../../protocol/constants.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { describe, readBack } from "../failure.ts";
import type { StreamEvent } from "../messages.ts";
import { STREAMED_ALREADY } from "../replies.ts";
import { MORE, type Step } from "../step.ts";
import type { RequestHandler } from "../stream.ts";
import { CREATION_PROBE } from "../written-state.ts";
import type { WriteLog } from "./write-log.ts";

export class DryRunHandler implements RequestHandler {
  streamed = false;
  readonly holdsInput = false;
  readonly isRepeated = false;
  readonly hasTurn = true;
  readonly cannotComplete = false;
  readonly #channel: Channel;
  readonly #log: WriteLog;
  readonly #counters: Counters;
  readonly #post: (event: StreamEvent) => void;
  /** Bytes of the current WRITE that are still to arrive, and the position of the first. */
  #left = 0;
  #at: Offset = 0;
  /** The reply to it. */
  #status = NBD_OK;

  constructor(
    channel: Channel,
    log: WriteLog,
    counters: Counters,
    post: (event: StreamEvent) => void,
  ) {
    this.#channel = channel;
    this.#log = log;
    this.#counters = counters;
    this.#post = post;
  }

  get busy(): boolean {
    return this.#left > 0;
  }

  /** Logs and discards the part of the payload that has arrived. */
  step(): Step {
    const { input } = this.#channel;
    const n = Math.min(this.#left, input.available);
    if (n === 0) return input.receivePayload();
    const bytes = input.peek(n);
    input.consume(n);
    this.#left -= n;
    this.#put(bytes);
    if (this.#status === NBD_OK) this.#counters.addData(n);
    if (this.#left > 0) return MORE;
    this.#log.concurrent ||= hasMore(this.#channel);
    this.#channel.reply(this.#status);
    return MORE;
  }

  refused(error: number): void {
    if (this.#channel.request.type === NBD_CMD_WRITE_ZEROES) this.#judged(error);
  }

  /** Puts a part of the payload of an admitted WRITE where it can be read back. */
  #put(bytes: Uint8Array): void {
    if (this.#status !== NBD_OK) return;
    this.#status = this.#log.put(this.#at, bytes);
    this.#at = add(this.#at, bytes.length);
    if (this.#status !== NBD_OK) this.#judged(this.#status);
  }

  flush(): Step {
    return MORE;
  }

  abort(): boolean {
    const midRequest = this.busy;
    this.#left = 0;
    return midRequest;
  }

  clientLost(): void {}
  closed(): void {}

  serve(): Step {
    const { request, input } = this.#channel;
    input.consumeHeader();
    switch (request.type) {
      case NBD_CMD_WRITE:
        this.#write();
        break;
      case NBD_CMD_WRITE_ZEROES:
        this.#channel.reply(this.#zero());
        break;
      case NBD_CMD_READ:
        this.#read();
        break;
      case NBD_CMD_FLUSH:
        this.#log.flushes++;
        this.#channel.reply(this.#channel.allows(NBD_CMD_FLAG_FUA) ? NBD_OK : NBD_EINVAL);
        break;
      case NBD_CMD_BLOCK_STATUS: {
        const end = add(request.offset, request.length);
        const dataAt = (at: Offset) => this.#log.dataAt(at, end);
        this.#channel.replyBlockStatus(this.#log.advertised, NBD_CMD_FLAG_FUA, dataAt);
        break;
      }
      default:
        this.#channel.reply(NBD_EINVAL);
    }
    return MORE;
  }

  #write(): void {
    const channel = this.#channel;
    const { request } = channel;
    this.#left = request.payload;
    this.#at = request.offset;
    this.#status = channel.allows(NBD_CMD_FLAG_FUA) ? NBD_OK : NBD_EINVAL;
    if (this.#status === NBD_OK && this.#left > 0) this.#status = this.#log.write(request);
    if (this.#left === 0) channel.reply(this.#status);
    else this.#judged(this.#status);
  }

  /** @returns the reply */
  #zero(): number {
    const { request } = this.#channel;
    let status = NBD_OK;
    if (!this.#channel.allows(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE)) status = NBD_EINVAL;
    if (request.length === 0) return status;
    if (status === NBD_OK) status = this.#log.zero(request);
    const probe = add(request.offset, request.length) <= CREATION_PROBE;
    if (status !== NBD_OK || !probe) this.#judged(status);
    return status;
  }

  #judged(error: number): void {
    if (error === NBD_OK) this.streamed = true;
    else this.#post({ type: "refused", request: describe(this.#channel.request), error });
  }

  #read(): void {
    const channel = this.#channel;
    const { request, replies } = channel;
    const error = channel.isValidRead ? this.#log.read(request) : NBD_EINVAL;
    if (error === NBD_OK) {
      channel.replyRead(this.#log.data(request));
    } else if (error === NBD_EIO) {
      // Only the first time, as in a real stream. The log tries the windows that would keep it.
      if (this.#log.readsBack === 1) {
        this.#post({ type: "read-back", ...readBack(request, undefined) });
      }
      replies.refuse(request, error, STREAMED_ALREADY);
    } else {
      replies.refuseInvalid(request);
    }
  }
}

/** True when more requests have come: a client that waits for a reply sends nothing. */
export function hasMore({ input, fd }: Channel): boolean {
  return input.available > 0 || bytesReadable(fd) > 0;
}
