/** A stream that is held back: an ordinary disk in the spool, which goes to the sink when its clients are done. */
import type { EndpointError } from "../../endpoint/error.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import type { EndpointHandle } from "../../endpoint/spec.ts";
import { min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import type { Ended, ShortStream } from "../messages.ts";
import { SpoolError } from "../spool-file.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { Outlet } from "../write/outlet.ts";
import { spoolTooLong } from "../failure.ts";
import { HoldHandler } from "./hold-handler.ts";
import { HoldState, type HoldStateOptions } from "./hold-state.ts";

interface HoldStreamOptions extends HoldStateOptions {
  /** Undefined for one that {@link HoldStream.takeSink} brings. */
  readonly sink: Sink | undefined;
  readonly sinkOf: (endpoint: EndpointHandle) => Sink;
  readonly counters: Counters;
}

export class HoldStream extends HoldState implements Stream {
  /** Room for replies to small READs with their data. */
  readonly repliesCapacity = 128 * 1024;
  readonly ready = true;
  /** As long as a client is connected, it may write anywhere. */
  readonly full = false;
  readonly #sinkOf: (endpoint: EndpointHandle) => Sink;
  readonly #counters: Counters;
  #outlet: Outlet | undefined;
  /** The position of what is emitted next. */
  #head: Offset = 0;
  /**
   * "confirmed": the reader may see the end. "asks": it may not before {@link confirmEnd} is called, and the event
   * "at-end" is still to be posted, which "asked" says has been.
   */
  #end: "asks" | "asked" | "confirmed" = "confirmed";

  constructor(options: HoldStreamOptions) {
    super(options);
    this.#sinkOf = options.sinkOf;
    this.#counters = options.counters;
    if (options.sink !== undefined) this.#outlet = this.#outletOf(options.sink);
  }

  #outletOf(sink: Sink): Outlet {
    return new Outlet(sink, this.#counters, this.spool, (failure) => this.break(failure));
  }

  takeSink(endpoint: EndpointHandle): void {
    this.#outlet = this.#outletOf(this.#sinkOf(endpoint));
  }

  /** True without a sink: there is nothing to open yet. */
  get isOpen(): boolean {
    return this.#outlet?.isOpen ?? true;
  }

  get fd(): number {
    return this.#outlet?.fd ?? -1;
  }

  get clientsReturn(): boolean {
    return this.reconnects !== undefined;
  }

  get position(): string {
    // A program that has the file's path moves the stream, too.
    return `${this.moves} ${this.#head} ${this.#counters.emitted} ${this.spool.changed}`;
  }

  createHandler(channel: Channel): RequestHandler {
    return new HoldHandler(channel, this);
  }

  open(): boolean {
    return this.#outlet?.open() ?? true;
  }

  events(wanted: boolean): number {
    return this.#outlet?.events(wanted) ?? -1;
  }

  reported(revents: number, finishing: boolean): void {
    this.#outlet?.reported(revents, finishing && this.#head === this.until);
  }

  endpointFailed(error: EndpointError): void {
    if (this.#outlet === undefined) this.spoolFailed(error, this.#counters);
    else this.#outlet.failed(error);
  }

  beforeSleep(): void {
    this.spool.remeasure();
  }

  processExited(): void {
    // Only a source's exit status matters before the end of the stream.
  }

  finish(short: ShortStream, asks: boolean): void {
    if (asks) this.#end = "asks";
    // A program that has the file's path does not count what it writes.
    this.spool.measure();
    this.until = 0;
    try {
      const { length } = this.spool;
      // Nor is it ever cut off.
      if (length > this.size) this.break(spoolTooLong(length, this.size));
      this.until = short === "pad" ? this.size : min(this.end, this.size);
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      this.endpointFailed(error);
    }
    if (this.failure === undefined) this.post({ type: "streaming", length: this.until });
  }

  complete(): boolean {
    const outlet = this.#outlet;
    if (outlet?.isOpen !== true) return false;
    return outlet.emitAll(() => this.#queueNext()) && this.#finished(outlet);
  }

  #finished(outlet: Outlet): boolean {
    if (outlet.complete(this.#end === "confirmed")) return true;
    if (outlet.isTaken && this.#end === "asks") {
      this.#end = "asked";
      this.post({ type: "at-end" });
    }
    return false;
  }

  confirmEnd(): void {
    this.#end = "confirmed";
  }

  /** Queues the next hole or the next run of data. @returns false at the end of the stream */
  #queueNext(): boolean {
    const until = this.until as Offset;
    const at = this.#head;
    if (at === until) return false;
    const { emitter } = this.#outlet as Outlet;
    const [data, end] = this.spool.dataAt(at);
    this.#head = min(end ?? until, until);
    const length = subtract(this.#head, at);
    if (data) emitter.pushFile(this.spool, at, length);
    else emitter.pushZeroes(length);
    return true;
  }

  get completeInterval(): number {
    if (this.#outlet === undefined || this.#end === "asked") return Number.POSITIVE_INFINITY;
    return this.#outlet.completeInterval;
  }

  close(): Ended {
    const checksum = this.#outlet?.close();
    this.spool.close();
    return { windowNeeded: 0, checksum, sourceEnded: false };
  }
}
