/** A stream that is written, through the real engine into a real FIFO. */
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { close, open, read } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { FifoSink } from "../../src/endpoint/sink/fifo-sink.ts";
import { UNBOUNDED_SIZE } from "../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../src/protocol/offset.ts";
import { WriteFlow } from "../../src/stream/write/write-flow.ts";
import { EngineFixture } from "./engine.ts";

const scratch = new Memory(1 << 20);

export interface StreamOptions {
  readonly size?: Offset;
  /** False leaves the FIFO without a reader until {@link StreamFixture.openReader}. */
  readonly reader?: boolean;
  readonly window?: number;
  readonly reconnect?: boolean;
  readonly idleTimeout?: number;
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
    reconnect = false,
    idleTimeout,
  }: StreamOptions = {}) {
    super(({ path, counters, post }) => {
      const sink = new FifoSink(path);
      return new WriteFlow({ sink, size, window, reconnect, counters, post });
    }, idleTimeout);
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

  /** Everything that has come out of the stream. */
  get output(): Buffer {
    this.#output = [Buffer.concat(this.#output)];
    return this.#output[0] as Buffer;
  }

  protected override moveFarEnd(): boolean {
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
