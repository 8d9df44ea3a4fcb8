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
import { add, type Offset } from "../../protocol/offset.ts";
import type { Channel, Step } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { describe, readBack } from "../failure.ts";
import type { Side } from "../flow.ts";
import type { StreamEvent } from "../messages.ts";
import { CREATION_PROBE } from "../write/write-side.ts";
import type { WriteLog } from "../dry-run/write-log.ts";

export class DryRunSide implements Side {
  streamed = false;
  readonly holdsInput = false;
  readonly hasTurn = true;
  readonly hopeless = false;
  readonly #channel: Channel;
  readonly #record: WriteLog;
  readonly #counters: Counters;
  readonly #post: (event: StreamEvent) => void;
  /** Bytes of the current WRITE that are still to come, and where the first of them belongs. */
  #left = 0;
  #at: Offset = 0;
  /** The answer to it. */
  #status = NBD_OK;

  constructor(
    channel: Channel,
    record: WriteLog,
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
    const n = this.#channel.discard(this.#left, (bytes) => this.#look(bytes));
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

  /** What has come of the payload of an admitted WRITE is put where it may be read back. */
  #look(bytes: Uint8Array): void {
    if (this.#status !== NBD_OK) return;
    this.#status = this.#record.put(this.#at, bytes);
    this.#at = add(this.#at, bytes.length);
    if (this.#status !== NBD_OK) this.#judged(this.#status);
  }

  settle(): boolean {
    return true;
  }

  lose(): boolean {
    const midRequest = this.busy;
    this.#left = 0;
    return midRequest;
  }

  clientLost(): void {}
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
    this.#at = request.offset;
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
    const { request, answers } = channel;
    const error = channel.isValidRead ? this.#record.read(request) : NBD_EINVAL;
    if (error === NBD_OK) {
      channel.answerRead(this.#record.data(request));
    } else if (error === NBD_EIO) {
      // Only the first time, as of a real stream. Where a window would keep it, that is tried.
      if (this.#record.readsBack === 1) {
        this.#post({ type: "read-back", ...readBack(request, undefined) });
      }
      answers.refuse(request, error, "it has been streamed already");
    } else {
      answers.refuseInvalid(request);
    }
  }

  /** As of a real stream: what has gone by, and what is held, counts as data, and all else as zeroes. */
  #blockStatus(): void {
    const { offset, length } = this.#channel.request;
    const end = add(offset, length);
    this.#channel.answerBlockStatus(this.#record.advertised, (at) => this.#record.dataAt(at, end));
  }
}
