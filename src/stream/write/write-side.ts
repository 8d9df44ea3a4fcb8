/** A connection to a stream that is written: its requests, one by one. */
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
import { add, min } from "../../protocol/offset.ts";
import type { Channel, Step } from "../channel.ts";
import type { Side } from "../flow.ts";
import type { WriteStream } from "./write-stream.ts";
import { Writer } from "./writer.ts";

/**
 * qemu-img without `-n` first "creates" the disk on a connection of its own, where it zeroes one
 * sector. Zeroes that end here do not make a client one that sent data.
 */
export const CREATION_PROBE = 512;

export class WriteSide implements Side {
  readonly #channel: Channel;
  readonly #stream: WriteStream;
  readonly #writer: Writer;
  #zeroed = false;

  constructor(channel: Channel, stream: WriteStream) {
    this.#channel = channel;
    this.#stream = stream;
    this.#writer = new Writer(channel, stream);
  }

  get streamed(): boolean {
    return this.#writer.wrote || this.#zeroed;
  }

  get holdsInput(): boolean {
    return this.#writer.isWriter || this.#writer.inPayload;
  }

  get hasTurn(): boolean {
    return this.#stream.writer === undefined;
  }

  get busy(): boolean {
    return this.#writer.busy;
  }

  get hopeless(): boolean {
    return this.#writer.hopeless;
  }

  step(): Step {
    return this.#writer.step();
  }

  refused(error: number): void {
    const { request } = this.#channel;
    if (request.type === NBD_CMD_WRITE_ZEROES) this.#stream.refuse(request, error);
  }

  settle(): boolean {
    return this.#writer.settle();
  }

  lose(): boolean {
    return this.#writer.lose();
  }

  clientLost(): void {
    this.#stream.clientLost(this.#writer);
  }

  leave(): void {
    this.#stream.left(this.#writer);
  }

  serve(): boolean {
    const { request, input } = this.#channel;
    if (request.type === NBD_CMD_WRITE) return this.#writer.serve();
    // All other commands are answered in order: after the WRITEs before them.
    if (!this.settle()) return false;
    input.consume(this.#channel.headerSize);
    switch (request.type) {
      case NBD_CMD_READ:
        this.#read();
        break;
      case NBD_CMD_WRITE_ZEROES:
        this.#zero();
        break;
      case NBD_CMD_FLUSH:
        this.#channel.reply(this.#flush());
        break;
      case NBD_CMD_BLOCK_STATUS:
        this.#blockStatus();
        break;
      default:
        this.#channel.reply(NBD_EINVAL);
    }
    return true;
  }

  /** @returns NBD_OK, or why nothing can be written any more */
  #flush(): number {
    const { fua, failure } = this.#stream;
    if (fua === 0 || !this.#channel.allows(fua)) return NBD_EINVAL;
    return failure?.errno ?? NBD_OK;
  }

  #read(): void {
    const channel = this.#channel;
    const { request } = channel;
    const { offset, length } = request;
    const { rule } = this.#stream;
    // A READ has nothing to do with it, but only flags that were offered are valid.
    const valid = channel.isValidRead && channel.allows(~NBD_CMD_FLAG_FUA | this.#stream.fua);
    const error = valid ? rule.read(offset, length) : NBD_EINVAL;
    if (error === NBD_EIO) this.#stream.readBack(request);
    const { answers } = channel;
    if (error === NBD_OK) channel.answerRead(rule.window?.read(offset, Number(length)));
    else if (error === NBD_EIO) answers.refuse(request, error, "it has been streamed already");
    else answers.refuseInvalid(request);
  }

  /** What has been streamed counts as data; ahead of it there are zeroes, but for what is held. */
  #blockStatus(): void {
    const { rule } = this.#stream;
    this.#channel.answerBlockStatus(rule.advertised, (offset) => rule.dataAt(offset));
  }

  /** Takes a WRITE_ZEROES, and answers it. */
  #zero(): void {
    const { request } = this.#channel;
    const { offset, length } = request;
    const stream = this.#stream;
    let error = stream.failure?.errno ?? NBD_OK;
    if (stream.overtakes(this.#writer, offset, add(offset, length))) return;
    if (error === NBD_OK) {
      const valid = this.#channel.allows(stream.fua | NBD_CMD_FLAG_NO_HOLE);
      error = valid ? NBD_OK : NBD_EINVAL;
      if (valid && length > 0) error = stream.rule.zero(offset, length);
      if (error === NBD_EIO && this.#repeatsZeroes())
        error = stream.rule.zero(offset, length, true);
      if (this.#channel.replaced) return;
      if (error !== NBD_OK) stream.refuse(request, error);
      else if (length > 0 && add(offset, length) > CREATION_PROBE) {
        this.#zeroed = true;
        stream.moved(this.#writer);
      }
    }
    this.#channel.reply(error);
  }

  /** True when the current request is one that a client repeats, and did what it asked for. */
  #repeatsZeroes(): boolean {
    const { offset, length } = this.#channel.request;
    const { emitted, rule } = this.#stream;
    if (emitted === undefined || !this.#stream.mayRepeat(this.#writer, offset, false)) return false;
    return emitted.isZero(offset, min(add(offset, length), rule.head));
  }
}
