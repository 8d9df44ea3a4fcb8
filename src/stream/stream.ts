/** What all connections of one stream share. */
import type { SinkError } from "../endpoint/sink.ts";
import type { Connection } from "./connection.ts";
import type { Emitter } from "./emitter.ts";
import { type Failure, readerGone, sinkFailed } from "./failure.ts";
import type { StreamEvent } from "./messages.ts";
import type { SequentialRule } from "./rule.ts";

/** The state of the stream. */
export class Stream {
  /** Set when the stream is broken, for good. */
  failure: Failure | undefined;
  /** The connection whose payload is on its way; requests of two are never mixed. */
  writer: Connection | undefined;

  constructor(
    readonly rule: SequentialRule,
    readonly emitter: Emitter,
    readonly post: (event: StreamEvent) => void,
  ) {}

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.post({ type: "broken", failure });
  }

  /** The sink has failed: nothing that is queued gets there. */
  sinkFailed(error: SinkError): void {
    const { sink, counters } = this.emitter;
    this.#loseSink(sinkFailed(sink.name, error, counters.emitted));
  }

  /** The reader has closed its end. @param unread bytes that it left behind */
  readerGone(unread: number): void {
    const { sink, counters } = this.emitter;
    this.#loseSink(readerGone(sink.name, counters.emitted, unread));
  }

  #loseSink(failure: Failure): void {
    this.break(failure);
    this.emitter.clear();
    this.emitter.sink.close();
    this.writer?.abandon(failure.errno);
    this.writer = undefined;
  }
}
