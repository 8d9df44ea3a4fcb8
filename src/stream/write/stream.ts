/** What all connections of one stream share. */
import type { EndpointError } from "../../endpoint/guarded.ts";
import { NBD_CMD_FLAG_FUA, NBD_EIO } from "../../protocol/constants.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import type { Emitter } from "./emitter.ts";
import {
  backwardWrite,
  clientCut,
  describe,
  type Failure,
  readerGone,
  sinkFailed,
} from "../failure.ts";
import type { StreamEvent } from "../messages.ts";
import type { Payload } from "./payload.ts";
import { Replay } from "./replay.ts";
import type { SequentialRule } from "./rule.ts";

/** A connection that may have its payload on its way. */
export interface TurnHolder {
  /** The sink is lost: what is queued and the rest of the current payload get this error. */
  abandon(errno: number): void;
}

export interface StreamOptions {
  /** Clients whose connection is lost may come back and go on. */
  readonly reconnect: boolean;
  /** NBD_CMD_FLUSH and NBD_CMD_FLAG_FUA are offered. */
  readonly flushes: boolean;
}

/** The state of the stream. */
export class Stream {
  /** Set when the stream is broken, for good. */
  failure: Failure | undefined;
  /** The connection whose payload is on its way; requests of two are never mixed. */
  writer: TurnHolder | undefined;
  /** Set while clients may come back. */
  readonly #replay: Replay | undefined;
  /** A WRITE that was cut off: from where to where it is missing, and what it means if it stays so. */
  #interrupted:
    { readonly from: Offset; readonly end: Offset; readonly failure: Failure } | undefined;
  /** It has been told that a client wanted to read what has gone by. */
  #readBack = false;
  /** A connection has been lost since the start. */
  #lost = false;
  /** A client that was lost has not been heard of since. */
  #awaited = false;

  /** NBD_CMD_FLAG_FUA where clients may use it, else 0. */
  readonly fua: number;

  constructor(
    readonly rule: SequentialRule,
    readonly emitter: Emitter,
    readonly post: (event: StreamEvent) => void,
    { reconnect, flushes }: StreamOptions,
  ) {
    this.#replay = reconnect ? new Replay() : undefined;
    this.fua = flushes ? NBD_CMD_FLAG_FUA : 0;
  }

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.post({ type: "broken", failure });
  }

  /** A WRITE or WRITE_ZEROES is refused: below the head it breaks the stream. */
  refuse(request: Request, error: number): void {
    if (error === NBD_EIO) {
      this.break(backwardWrite(request, this.rule.head, this.rule.windowFor(request.offset)));
    } else {
      this.post({ type: "refused", request: describe(request), error });
    }
  }

  /** A client wants to read what has gone by. Only the first time is told. */
  readBack(request: Request): void {
    if (!this.#readBack) this.post({ type: "read-back", request: describe(request) });
    this.#readBack = true;
  }

  /** A WRITE has been taken on. */
  admitted(request: Request): void {
    this.#replay?.remember(request.offset);
    this.resumed();
    const missing = this.#interrupted;
    // Only data makes it good: a gap may have taken the head there, too.
    if (missing !== undefined && request.offset <= missing.from && this.rule.head >= missing.end) {
      this.#interrupted = undefined;
    }
  }

  /** A client goes on with the stream. */
  resumed(): void {
    if (this.#awaited) this.post({ type: "resumed" });
    this.#awaited = false;
  }

  /** True while it is too early to judge a WRITE below the head: its first try is still under way. */
  mayBeReplay(request: Request, by: TurnHolder): boolean {
    const taken = this.writer !== undefined && this.writer !== by;
    return taken && this.#replay !== undefined && request.offset < this.rule.head;
  }

  /** True for a WRITE that a client may repeat after a connection was lost. */
  isReplay(request: Request): boolean {
    const { offset } = request;
    return this.#lost && offset < this.rule.head && this.#replay?.knows(offset) === true;
  }

  /** A client has lost its connection. @param succeeded another one goes on with what it did */
  clientLost(succeeded: boolean): void {
    this.#lost = true;
    this.#awaited = !succeeded;
  }

  /**
   * The writer has gone before all of its WRITEs are in the stream: what was promised of them is
   * taken back, and unless the client may come back to repeat it, the stream is broken.
   */
  cut(request: Request, payload: Payload): void {
    const { emitter, rule } = this;
    const failure = clientCut(request, payload.left, emitter.counters.emitted);
    const end = rule.head;
    const lost = emitter.backlog;
    rule.rewind(add(lost, payload.emit));
    emitter.clear();
    this.writer = undefined;
    // What is queued may be data that a client has been told is safe; it will not come again.
    if (this.#replay === undefined || lost > 0) this.break(failure);
    else this.#interrupted ??= { from: rule.head, end, failure };
  }

  /** No client comes back any more: what was cut off and not repeated breaks the stream. */
  closeBooks(): void {
    if (this.#interrupted !== undefined) this.break(this.#interrupted.failure);
  }

  /** True when the window's first run is to go out now. */
  get windowIsNext(): boolean {
    return this.failure === undefined && this.rule.windowIsNext;
  }

  /**
   * Queues the window's first run, and the gap before it as zeroes; only while nothing is queued.
   *
   * @param limit as `SequentialRule.advance` takes it
   */
  advanceWindow(limit?: Offset): void {
    const { emitter } = this;
    emitter.pushZeroes(
      this.rule.advance((address, length) => emitter.pushBytes(address, length), limit),
    );
  }

  /** The sink has failed: nothing that is queued gets there. */
  sinkFailed(error: EndpointError): void {
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
