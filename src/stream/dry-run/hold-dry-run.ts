/** A dry run as a stream that is held back: a client that needs an ordinary disk gets one, and is recorded. */
import { Memory } from "../../../ffi/memory.ts";
import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_ENOSPC,
} from "../../protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../protocol/export.ts";
import { add } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { HoldHandler } from "../hold/hold-handler.ts";
import type { HoldStateOptions } from "../hold/hold-state.ts";
import { HoldStream } from "../hold/hold-stream.ts";
import { type Ended, START } from "../messages.ts";
import { MORE, type Step } from "../step.ts";
import type { RequestHandler } from "../stream.ts";
import { hasMore } from "./dry-run-handler.ts";
import { WriteLog } from "./write-log.ts";

/**
 * Bytes of a disk without end up to which zeroes are taken, 16 TiB: the largest file of ext4. A client that
 * zeroes all of the disk before it writes would be at that for hours.
 */
const MOST_ZEROES = 2 ** 44;

/** The real stream, without a sink: the disk is thrown away in the end. */
export class HoldDryRun extends HoldStream {
  readonly log: WriteLog;
  readonly #counters: Counters;
  #opened = false;

  constructor(options: Omit<HoldStateOptions, "reconnect"> & { readonly counters: Counters }) {
    const sinkOf = () => {
      throw new Error("a dry run has no sink");
    };
    super({ ...options, reconnect: false, sink: undefined, sinkOf });
    this.#counters = options.counters;
    this.log = new WriteLog(options.size, 0);
  }

  override get isOpen(): boolean {
    return this.#opened;
  }

  override open(): boolean {
    this.#opened = true;
    return true;
  }

  override createHandler(channel: Channel): RequestHandler {
    return new RecordingHandler(channel, this);
  }

  /** Posts what the disk begins with, by which its format is known. */
  override complete(): boolean {
    const start = new Memory(START);
    this.spool.read(0, start, 0, START);
    this.post({ type: "first-bytes", bytes: start.bytes });
    return true;
  }

  override close(): Ended {
    const ended = super.close();
    return { ...ended, dryRun: { ...this.log.findings, held: this.#counters.mostSpooled } };
  }
}

class RecordingHandler extends HoldHandler {
  readonly #stream: HoldDryRun;

  constructor(channel: Channel, stream: HoldDryRun) {
    super(channel, stream);
    this.#stream = stream;
  }

  override serve(): Step {
    const { type, offset, length } = this.channel.request;
    const isFar = type === NBD_CMD_WRITE_ZEROES && add(offset, length) > MOST_ZEROES;
    if (isFar && this.#stream.size >= UNBOUNDED_SIZE) return this.#findNoEnd();
    const step = super.serve();
    // Otherwise it is served again.
    if (step === MORE) this.#record();
    return step;
  }

  override step(): Step {
    const step = super.step();
    const { channel } = this;
    if (channel.request.type === NBD_CMD_WRITE && !this.busy) {
      this.#stream.log.concurrent ||= hasMore(channel);
    }
    return step;
  }

  #record(): void {
    const { request } = this.channel;
    const { log } = this.#stream;
    if (request.type === NBD_CMD_FLUSH) log.flushes++;
    if (request.length === 0) return;
    if (request.type === NBD_CMD_WRITE) log.write(request);
    else if (request.type === NBD_CMD_WRITE_ZEROES) log.zero(request);
    else if (request.type === NBD_CMD_READ) log.read(request);
  }

  #findNoEnd(): Step {
    const { channel } = this;
    this.#stream.log.end = this.#stream.size;
    channel.input.consumeHeader();
    this.#stream.refuse(channel.request, NBD_ENOSPC);
    channel.reply(NBD_ENOSPC);
    return MORE;
  }
}
