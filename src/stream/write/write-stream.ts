/** A stream that is written: opens, polls, completes and closes its sink. */
import { POLLERR, POLLHUP, POLLOUT } from "../../../ffi/constants.ts";
import { EndpointError } from "../../endpoint/error.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { tooShort } from "../failure.ts";
import type { Ended, ShortStream, StreamEvent } from "../messages.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { Emitter } from "./emitter.ts";
import { SequentialRule } from "./rule.ts";
import { Window } from "./window.ts";
import { WriteHandler } from "./write-handler.ts";
import { WriteState, type WriteStateOptions } from "./write-state.ts";

/**
 * Milliseconds between two checks of the unread bytes, at most: poll(2) does not report that a pipe is empty.
 * The first checks come sooner.
 */
const DRAIN_INTERVAL = 5;

interface WriteStreamOptions extends WriteStateOptions {
  readonly sink: Sink;
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes of the window; 0 is none. */
  readonly window: number;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

export class WriteStream extends WriteState implements Stream {
  /** Simple replies, and now and then a little more. */
  readonly repliesCapacity = 8192;
  readonly #sink: Sink;
  /** The reader has taken everything and left. */
  #readerDone = false;
  #short: ShortStream = "allow";
  #drainInterval = 1;

  constructor(options: WriteStreamOptions) {
    const { sink, size, window, counters, post } = options;
    const rule = new SequentialRule(size, window > 0 ? new Window(window) : undefined);
    super(rule, new Emitter(sink, counters), post, options);
    this.#sink = sink;
  }

  get isOpen(): boolean {
    return this.#sink.fd >= 0;
  }

  get fd(): number {
    return this.#readerDone ? -1 : this.#sink.fd;
  }

  get ready(): boolean {
    return this.emitter.ready || (this.failure !== undefined && !this.isOpen);
  }

  get clientsReturn(): boolean {
    return this.sent !== undefined;
  }

  /** With data in the window there is a gap before it, whose data is not known. */
  get full(): boolean {
    const { pending, size, window } = this.rule;
    return pending >= size && window?.start === undefined && !this.isMissingData;
  }

  get position(): string {
    const { head, pending, window } = this.rule;
    return `${this.emitter.counters.emitted} ${head} ${pending} ${window?.held ?? 0}`;
  }

  createHandler(channel: Channel): RequestHandler {
    return new WriteHandler(channel, this);
  }

  open(): boolean {
    this.emitter.ready = this.#sink.open();
    return this.emitter.ready;
  }

  events(wanted: boolean): number {
    const awaited = !this.emitter.ready && (wanted || !this.emitter.idle);
    this.emitter.counters.endpointAwaited = awaited;
    return awaited ? POLLOUT : 0;
  }

  reported(revents: number, finishing: boolean): void {
    // A pipe without a reader is POLLERR, a socket whose peer has closed POLLHUP.
    if ((revents & (POLLERR | POLLHUP)) !== 0) {
      try {
        this.#readerLeft(this.#sink.unread(), finishing);
      } catch (error) {
        if (!(error instanceof EndpointError)) throw error;
        this.endpointFailed(error);
      }
    } else if ((revents & POLLOUT) !== 0) {
      this.emitter.ready = true;
    }
  }

  /** At the end of the stream, a reader that has taken everything may leave. */
  #readerLeft(unread: number, finishing: boolean): void {
    const last = finishing || this.rule.head === this.rule.size;
    this.#readerDone = last && this.emitter.idle && unread === 0;
    if (!this.#readerDone) this.readerGone(unread);
  }

  processExited(): void {
    // Only a source's exit status matters before the end of the stream.
  }

  finish(short: ShortStream): void {
    const { end, size } = this.rule;
    this.#short = short;
    if (short === "fail" && end < size) this.break(tooShort("write", end, size));
  }

  /** Emits the last zeroes, waits until the reader has taken everything, and closes the sink. */
  complete(): boolean {
    if (!this.isOpen || !this.#flushAll()) return false;
    if (this.#sink.unread() === 0 && this.#sink.complete()) return true;
    this.#drainInterval = Math.min(2 * this.#drainInterval, DRAIN_INTERVAL);
    return false;
  }

  get completeInterval(): number {
    if (this.emitter.idle) return this.#drainInterval;
    return this.emitter.ready ? 0 : Number.POSITIVE_INFINITY;
  }

  /** Emits what the window holds, then the pending zeroes. @returns true when all is emitted */
  #flushAll(): boolean {
    const { rule, emitter } = this;
    while (emitter.flush()) {
      if (rule.window?.start !== undefined) {
        this.advanceWindow();
      } else {
        const zeroes = rule.fill(this.#short === "pad" ? rule.size : rule.pending);
        if (zeroes === 0) return true;
        emitter.pushZeroes(zeroes);
      }
    }
    return false;
  }

  close(): Ended {
    const checksum = this.#sink.digest?.();
    this.#sink.close();
    const windowNeeded = this.rule.window?.needed ?? 0;
    return { windowNeeded, checksum, sourceEnded: false };
  }
}
