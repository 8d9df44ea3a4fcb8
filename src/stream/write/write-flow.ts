/** A stream that is written: from its connections to its sink. */
import { POLLERR, POLLHUP, POLLOUT } from "../../../ffi/constants.ts";
import { EndpointError } from "../../endpoint/error.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { type Failure, tooShort } from "../failure.ts";
import type { Flow, Side } from "../flow.ts";
import type { Ended, ShortStream, StreamEvent } from "../messages.ts";
import { Emitter } from "./emitter.ts";
import { SequentialRule } from "./rule.ts";
import { WriteStream, type WriteStreamOptions } from "./write-stream.ts";
import { Window } from "./window.ts";
import { WriteSide } from "./write-side.ts";

/** Milliseconds between two looks at what the reader has left: a pipe does not tell that. */
const DRAIN_INTERVAL = 5;

export interface WriteFlowOptions extends WriteStreamOptions {
  readonly sink: Sink;
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes that may be held ahead of the head; 0 is none. */
  readonly window: number;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

export class WriteFlow implements Flow {
  /** Simple replies, and now and then a little more. */
  readonly repliesCapacity = 8192;
  readonly #sink: Sink;
  readonly #emitter: Emitter;
  readonly #stream: WriteStream;
  /** The reader has taken everything and left. */
  #readerDone = false;
  /** What the finish makes of a stream that has not reached its size. */
  #short: ShortStream = "allow";

  constructor({ sink, size, window, remembered, flushes, counters, post }: WriteFlowOptions) {
    this.#sink = sink;
    this.#emitter = new Emitter(sink, counters);
    const rule = new SequentialRule(size, window > 0 ? new Window(window) : undefined);
    this.#stream = new WriteStream(rule, this.#emitter, post, { remembered, flushes });
  }

  get failure(): Failure | undefined {
    return this.#stream.failure;
  }

  get isOpen(): boolean {
    return this.#sink.fd >= 0;
  }

  get fd(): number {
    return this.#readerDone ? -1 : this.#sink.fd;
  }

  get ready(): boolean {
    return this.#emitter.ready;
  }

  get clientsReturn(): boolean {
    return this.#stream.emitted !== undefined;
  }

  /** With data in the window there is a gap before it, of which nobody has said what belongs there. */
  get full(): boolean {
    const { pending, size, window } = this.#stream.rule;
    return pending >= size && window?.start === undefined && !this.#stream.isMissingData;
  }

  get mark(): string {
    const { head, pending, window } = this.#stream.rule;
    return `${this.#emitter.counters.emitted} ${head} ${pending} ${window?.held ?? 0}`;
  }

  takePart(channel: Channel): Side {
    return new WriteSide(channel, this.#stream);
  }

  open(): boolean {
    this.#emitter.ready = this.#sink.open();
    return this.#emitter.ready;
  }

  events(wanted: boolean): number {
    const awaited = !this.#emitter.ready && (wanted || !this.#emitter.idle);
    this.#emitter.counters.endpointAwaited = awaited;
    return awaited ? POLLOUT : 0;
  }

  reported(revents: number, finishing: boolean): void {
    // A pipe without a reader is POLLERR, a socket whose peer has closed POLLHUP.
    if ((revents & (POLLERR | POLLHUP)) !== 0) {
      try {
        this.#readerLeft(this.#sink.unread(), finishing);
      } catch (error) {
        if (!(error instanceof EndpointError)) throw error;
        this.failed(error);
      }
    } else if ((revents & POLLOUT) !== 0) {
      this.#emitter.ready = true;
    }
  }

  /** At the end of the stream a reader that has taken everything is free to go. */
  #readerLeft(unread: number, finishing: boolean): void {
    const { rule } = this.#stream;
    const last = finishing || rule.head === rule.size;
    this.#readerDone = last && this.#emitter.idle && unread === 0;
    if (!this.#readerDone) this.#stream.readerGone(unread);
  }

  failed(error: EndpointError): void {
    this.#stream.sinkFailed(error);
  }

  endReconnect(): void {
    this.#stream.endReconnect();
  }

  settled(): void {
    // Only sources have an end to be settled while the stream is under way.
  }

  beginFinish(short: ShortStream): void {
    const { rule } = this.#stream;
    this.#short = short;
    if (short === "fail" && rule.end < rule.size) {
      this.#stream.break(tooShort("write", rule.end, rule.size));
    }
  }

  /** Brings out the last zeroes, waits until the reader has taken everything, and closes the sink. */
  finish(): boolean {
    if (!this.isOpen || !this.#flushAll() || this.#sink.unread() > 0) return false;
    return this.#sink.complete();
  }

  get finishInterval(): number {
    if (this.#emitter.idle) return DRAIN_INTERVAL;
    return this.#emitter.ready ? 0 : Number.POSITIVE_INFINITY;
  }

  /** Brings out what the window holds, then what is pending. @returns true when all is out */
  #flushAll(): boolean {
    const { rule } = this.#stream;
    while (this.#emitter.flush()) {
      if (rule.window?.start !== undefined) {
        this.#stream.advanceWindow();
      } else {
        const zeroes = rule.fill(this.#short === "pad" ? rule.size : rule.pending);
        if (zeroes === 0) return true;
        this.#emitter.pushZeroes(zeroes);
      }
    }
    return false;
  }

  close(): Ended {
    const checksum = this.#sink.digest?.();
    this.#sink.close();
    const windowNeeded = this.#stream.rule.window?.needed ?? 0;
    return { windowNeeded, checksum, sourceEnded: false };
  }
}
