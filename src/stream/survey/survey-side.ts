/** A connection to a disk that takes everything, keeps nothing, and remembers what was asked. */
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
import type { Channel, Step } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { describe } from "../failure.ts";
import type { Side } from "../flow.ts";
import type { StreamEvent } from "../messages.ts";
import type { Record } from "./record.ts";

export class SurveySide implements Side {
  streamed = false;
  readonly holdsInput = false;
  readonly hasTurn = true;
  readonly hopeless = false;
  readonly #channel: Channel;
  readonly #record: Record;
  readonly #counters: Counters;
  readonly #post: (event: StreamEvent) => void;
  /** Bytes of the current WRITE that are still to come. */
  #left = 0;
  /** The answer to it. */
  #status = NBD_OK;

  constructor(
    channel: Channel,
    record: Record,
    counters: Counters,
    post: (event: StreamEvent) => void,
  ) {
    this.#channel = channel;
    this.#record = record;
    this.#counters = counters;
    this.#post = post;
  }

  get busy(): boolean {
    return this.#left > 0;
  }

  /** Throws away what has come of the payload. */
  step(): Step {
    const { input, fd } = this.#channel;
    const n = this.#channel.discard(this.#left);
    if (typeof n !== "number") return n;
    this.#left -= n;
    if (this.#status === NBD_OK) this.#counters.addData(n);
    if (this.#left > 0) return true;
    // A client that waits for the answer has nothing more to say now.
    this.#record.concurrent ||= input.available > 0 || bytesReadable(fd) > 0;
    this.#channel.reply(this.#status);
    return true;
  }

  refused(error: number): void {
    if (this.#channel.request.type === NBD_CMD_WRITE_ZEROES) this.#judged(error);
  }

  settle(): boolean {
    return true;
  }

  lose(): boolean {
    const midRequest = this.busy;
    this.#left = 0;
    return midRequest;
  }

  leave(): void {}

  serve(): boolean {
    const { request, input } = this.#channel;
    input.consume(this.#channel.headerSize);
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
        this.#record.flushes++;
        this.#channel.reply(this.#channel.allows(NBD_CMD_FLAG_FUA) ? NBD_OK : NBD_EINVAL);
        break;
      case NBD_CMD_BLOCK_STATUS:
        this.#blockStatus();
        break;
      default:
        this.#channel.reply(NBD_EINVAL);
    }
    return true;
  }

  #write(): void {
    const channel = this.#channel;
    const { request } = channel;
    this.#left = request.payload;
    this.#status = channel.allows(NBD_CMD_FLAG_FUA) ? NBD_OK : NBD_EINVAL;
    if (this.#status === NBD_OK && this.#left > 0) this.#status = this.#record.write(request);
    if (this.#left === 0) channel.reply(this.#status);
    else this.#judged(this.#status);
  }

  /** @returns the answer */
  #zero(): number {
    const { request } = this.#channel;
    let status = NBD_OK;
    if (!this.#channel.allows(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE)) status = NBD_EINVAL;
    if (request.length === 0) return status;
    if (status === NBD_OK) status = this.#record.zero(request);
    this.#judged(status);
    return status;
  }

  #judged(error: number): void {
    if (error === NBD_OK) this.streamed = true;
    else this.#post({ type: "refused", request: describe(this.#channel.request), error });
  }

  #read(): void {
    const channel = this.#channel;
    const { request, answers } = channel;
    const error = channel.isValidRead ? this.#record.read(request) : NBD_EINVAL;
    if (error === NBD_OK) {
      answers.zeroes(request);
    } else if (error === NBD_EIO) {
      // Only the first time, as of a real stream.
      if (this.#record.readsBack === 1) {
        this.#post({ type: "read-back", request: describe(request) });
      }
      answers.refuse(request, error, "it has been streamed already");
    } else {
      answers.refuseInvalid(request);
    }
  }

  /** As of a real stream: what has gone by counts as data, and all else as zeroes. */
  #blockStatus(): void {
    const { front, advertised } = this.#record;
    this.#channel.answerBlockStatus(advertised, (offset) =>
      offset < front ? [true, front] : [false, undefined],
    );
  }
}
