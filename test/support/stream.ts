/** A stream that is written, through the real engine into a real FIFO. */
import { dirname } from "node:path";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { close, open, read } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { FifoSink } from "../../src/endpoint/sinks/pipe-sink.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE_ZEROES,
} from "../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../src/protocol/offset.ts";
import { SpoolFile } from "../../src/stream/spool-file.ts";
import { WriteStream } from "../../src/stream/write/write-stream.ts";
import type { Stream } from "../../src/stream/stream.ts";
import { EngineFixture, type StreamParts } from "./engine.ts";
import { encodeRequest } from "./wire.ts";
import type { Peer } from "./peer.ts";
import { decodeReply } from "./replies.ts";

const scratch = new Memory(1 << 20);

export interface StreamOptions {
  readonly size?: Offset;
  /** False leaves the FIFO without a reader until {@link StreamFixture.openReader}. */
  readonly reader?: boolean;
  readonly window?: number;
  /** There is a spool, in TMPDIR. */
  readonly spool?: boolean;
  /** Bytes that a client which comes back may repeat. */
  readonly remembered?: number;
  readonly idleTimeout?: number;
  readonly flushes?: boolean;
  /** Another stream into the same FIFO. */
  readonly make?: (parts: StreamParts) => Stream;
}

/** An engine, its FIFO with a reader, and clients. */
export class StreamFixture extends EngineFixture {
  #output: Buffer[] = [];
  #reader = -1;
  /** The reader has seen end of file. */
  sawEnd = false;

  constructor({
    size = toOffset(UNBOUNDED_SIZE),
    reader = true,
    window = 0,
    spool: spools = false,
    remembered = 0,
    idleTimeout,
    flushes = true,
    make = ({ path, counters, post }) => {
      const sink = new FifoSink(path);
      const folder = dirname(path);
      const spool = spools
        ? new SpoolFile({ ...makeUnnamed(folder, true), folder }, counters)
        : undefined;
      return new WriteStream({ sink, size, window, spool, remembered, flushes, counters, post });
    },
  }: StreamOptions = {}) {
    super(make, idleTimeout);
    if (reader) {
      this.openReader();
      this.engine.turn(0);
    }
  }

  openReader(): void {
    this.#reader = open(this.path, O_RDONLY | O_NONBLOCK);
  }

  closeReader(): void {
    close(this.#reader);
    this.#reader = -1;
  }

  /** The reader takes all that is in the FIFO, and leaves before the engine sees it. */
  takeAndLeave(): void {
    while (this.moveEndpoint());
    this.closeReader();
  }

  /** Everything that has come out of the stream. */
  get output(): Buffer {
    this.#output = [Buffer.concat(this.#output)];
    return this.#output[0] as Buffer;
  }

  protected override moveEndpoint(): boolean {
    if (this.#reader < 0 || this.sawEnd) return false;
    const n = read(this.#reader, scratch.at(0), scratch.length);
    if (n > 0) this.#output.push(Buffer.from(scratch.bytes.subarray(0, n)));
    // Without a writer a FIFO reads as ended; it has only ended once the engine has.
    if (n === 0 && this.engine.over) this.sawEnd = true;
    return n > 0;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    if (this.#reader >= 0) close(this.#reader);
  }
}

export const zeroes = (length: number, offset: number | bigint = 0, cookie = 1n) =>
  encodeRequest(NBD_CMD_WRITE_ZEROES, offset, length, { cookie });
export const readOf = (offset: number | bigint, length: number) =>
  encodeRequest(NBD_CMD_READ, offset, length);
export const DISC = encodeRequest(NBD_CMD_DISC, 0, 0);
export const FLUSH = encodeRequest(NBD_CMD_FLUSH, 0, 0);

/** Sends, and takes the one reply, which has to be a simple one. @returns the error */
export function ask(stream: EngineFixture, peer: Peer, ...parts: Uint8Array[]): number {
  peer.send(...parts);
  const { form, error } = stream.take(peer, decodeReply());
  if (form !== "simple") throw new Error(`a ${form} reply`);
  return error;
}

/** Ends the stream well and gives all that came out of it. */
export function finish(stream: StreamFixture, pad = false): Buffer {
  stream.settle();
  stream.command({ type: "finish", short: pad ? "pad" : "allow" });
  stream.until(() => stream.sawEnd);
  return stream.output;
}
