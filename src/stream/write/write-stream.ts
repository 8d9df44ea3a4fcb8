/** A stream that is written: opens, polls, completes and closes its sink. */
import type { EndpointError } from "../../endpoint/error.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import type { Failure } from "../../messages/notice.ts";
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { tooShort } from "../failure.ts";
import type { Ended, ShortStream } from "../messages.ts";
import type { SpoolFile } from "../spool-file.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { Outlet } from "./outlet.ts";
import { SequentialRule } from "./rule.ts";
import { Window } from "./window.ts";
import { WriteHandler } from "./write-handler.ts";
import { WriteState, type WriteStateOptions } from "./write-state.ts";

interface WriteStreamOptions extends WriteStateOptions {
  readonly sink: Sink;
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes of the window; 0 is none. */
  readonly window: number;
  /** For what has no room in the window; the stream closes it. */
  readonly spool?: SpoolFile | undefined;
  readonly counters: Counters;
}

export class WriteStream extends WriteState implements Stream {
  /** Simple replies, and now and then a little more. */
  readonly repliesCapacity = 8192;
  readonly #outlet: Outlet;
  readonly #spool: SpoolFile | undefined;
  #short: ShortStream = "allow";

  constructor(options: WriteStreamOptions) {
    const { sink, size, window, spool, counters } = options;
    const held = window > 0 || spool !== undefined ? new Window(window, { spool }) : undefined;
    let lost = (_: Failure) => {};
    const outlet = new Outlet(sink, counters, spool, (failure) => lost(failure));
    super(new SequentialRule(size, held), outlet.emitter, options);
    lost = (failure) => this.lost(failure);
    this.#outlet = outlet;
    this.#spool = spool;
  }

  get isOpen(): boolean {
    return this.#outlet.isOpen;
  }

  get fd(): number {
    return this.#outlet.fd;
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
    return this.#outlet.open();
  }

  events(wanted: boolean): number {
    return this.#outlet.events(wanted);
  }

  reported(revents: number, finishing: boolean): void {
    this.#outlet.reported(revents, finishing || this.#isAllQueued);
  }

  /** True when the sink gets nothing more than what is queued: the head counts what has yet to arrive, too. */
  get #isAllQueued(): boolean {
    const { head, size } = this.rule;
    return head === size && (this.writer?.awaited ?? 0) === 0;
  }

  endpointFailed(error: EndpointError): void {
    this.#outlet.failed(error);
  }

  beforeSleep(): void {
    this.#spool?.remeasure();
  }

  processExited(): void {
    // Only a source's exit status matters before the end of the stream.
  }

  finish(short: ShortStream): void {
    const { end, size } = this.rule;
    this.#short = short;
    this.start.end();
    if (short === "fail" && end < size) this.break(tooShort("write", end, size));
  }

  /** Emits the last zeroes, waits until the reader has taken everything, and closes the sink. */
  complete(): boolean {
    const outlet = this.#outlet;
    return outlet.isOpen && outlet.emitAll(() => this.#queueNext()) && outlet.complete();
  }

  get completeInterval(): number {
    return this.#outlet.completeInterval;
  }

  /** Queues what the window holds, then the pending zeroes. @returns false when there is nothing more */
  #queueNext(): boolean {
    const { rule, emitter } = this;
    if (rule.window?.start !== undefined) {
      this.advanceWindow();
      return true;
    }
    const zeroes = rule.fill(this.#short === "pad" ? rule.size : rule.pending);
    if (zeroes !== 0) emitter.pushZeroes(zeroes);
    return zeroes !== 0;
  }

  close(): Ended {
    const checksum = this.#outlet.close();
    this.#spool?.close();
    const windowNeeded = this.rule.window?.needed ?? 0;
    return { windowNeeded, checksum, sourceEnded: false };
  }
}
