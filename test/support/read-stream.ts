/** A stream that is read, through the real engine out of a real FIFO. */
import { O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { type ChecksumAlgorithm, Digest } from "../../src/endpoint/checksum.ts";
import { FifoSource } from "../../src/endpoint/sources/pipe-source.ts";
import type { Source } from "../../src/endpoint/sources/source.ts";
import { UNBOUNDED_SIZE } from "../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../src/protocol/offset.ts";
import type { Ended, ShortStream } from "../../src/stream/messages.ts";
import { ReadStream } from "../../src/stream/read/read-stream.ts";
import { EngineFixture } from "./engine.ts";
import { encodeAsked, takeAnswer } from "./answer.ts";
import type { Peer } from "./peer.ts";
import type { Answer, Asked } from "./replies.ts";

/** What of a READ is not the same in all of them; the form of its answer is by default the negotiated one. */
export type AskOptions = Partial<Pick<Asked, "flags" | "structured" | "extended">>;

export interface ReadOptions {
  /** Default: not known. */
  readonly size?: Offset | undefined;
  readonly window?: number;
  readonly reconnect?: boolean;
  readonly turnLimit?: number;
  readonly pad?: boolean;
  readonly exact?: boolean;
  readonly awaitsExit?: boolean;
  readonly checksum?: ChecksumAlgorithm;
  readonly idleTimeout?: number;
  /** In place of the FIFO, with what its writer writes to (-1: it has none), which this owns. */
  readonly source?: { readonly source: Source; readonly writer: number };
  /** False leaves the FIFO without a writer until {@link ReadFixture.openWriter}. */
  readonly writer?: boolean;
}

/** An engine, its FIFO with a writer, and clients. */
export class ReadFixture extends EngineFixture {
  /** Bytes that the writer writes at a time. */
  piece = 1 << 20;
  #unwritten: Uint8Array[] = [];
  #writer = -1;
  #ending = false;
  #cookie = 0n;

  constructor({ source, writer = true, checksum, ...options }: ReadOptions = {}) {
    super(
      ({ path, counters, post }) => {
        return new ReadStream({
          source: source?.source ?? new FifoSource(path),
          size: options.size ?? toOffset(UNBOUNDED_SIZE),
          endless: options.size === undefined,
          window: options.window ?? 0,
          reconnect: options.reconnect ?? false,
          pad: options.pad ?? false,
          exact: options.exact ?? false,
          awaitsExit: options.awaitsExit ?? false,
          digest: checksum === undefined ? undefined : new Digest(checksum),
          counters,
          post,
        });
      },
      options.idleTimeout,
      options.turnLimit,
    );
    if (source !== undefined) this.#writer = source.writer;
    else if (writer) this.openWriter();
  }

  /** A source that gives these bytes, and then ends. */
  static of(bytes: Uint8Array, options: ReadOptions = {}): ReadFixture {
    return new ReadFixture({ size: bytes.length, ...options }).feed(bytes).endSource();
  }

  openWriter(): void {
    // The source has to be there first: it opens its end without waiting.
    this.engine.turn(0);
    this.#writer = open(this.path, O_WRONLY | O_NONBLOCK);
    this.engine.turn(0);
  }

  /** Has the writer write these, as the pipe takes them. */
  feed(bytes: Uint8Array): this {
    if (bytes.length > 0) this.#unwritten.push(bytes);
    return this;
  }

  /** Has the writer end when it has written all. */
  endSource(): this {
    this.#ending = true;
    return this;
  }

  /** The writer has written all, and ended if it is to. */
  get written(): boolean {
    return this.#unwritten.length === 0 && (!this.#ending || this.#writer < 0);
  }

  protected override moveEndpoint(): boolean {
    if (this.#writer < 0) return false;
    const [next] = this.#unwritten;
    if (next === undefined) {
      if (this.#ending) this.#closeWriter();
      return this.#ending;
    }
    const part = new Memory(Buffer.from(next.subarray(0, this.piece)));
    try {
      const n = write(this.#writer, part.at(0), part.length);
      if (n <= 0) return false;
      this.#unwritten[0] = next.subarray(n);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      // Nobody reads any more.
      this.#unwritten = [];
    }
    if (this.#unwritten[0]?.length === 0) this.#unwritten.shift();
    return true;
  }

  #closeWriter(): void {
    if (this.#writer >= 0) close(this.#writer);
    this.#writer = -1;
  }

  /** Has a client send a READ. */
  ask(peer: Peer, offset: Offset, length: number, options: AskOptions = {}): Asked {
    const cookie = ++this.#cookie;
    const { structured, extended } = this.negotiated;
    const asked = { cookie, offset, length, structured, extended, ...options };
    peer.send(encodeAsked(asked));
    return asked;
  }

  /** Waits for the answer to it, which has to be the next. */
  answer(peer: Peer, asked: Asked): Answer {
    return takeAnswer(this, peer, asked);
  }

  /** Has a client read. @returns what it got */
  read(peer: Peer, offset: Offset, length: number, options: AskOptions = {}): Answer {
    return this.answer(peer, this.ask(peer, offset, length, options));
  }

  /** The clients are gone: ends the stream. @returns what there is to tell about it */
  finish(short: ShortStream = "fail"): Ended {
    this.command({ type: "finish", short });
    this.until(() => this.engine.over);
    return this.event("ended") as Ended;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#closeWriter();
  }
}
