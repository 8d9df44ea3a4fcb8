/** What all connections of one stream share. */
import type { EndpointError } from "../../endpoint/error.ts";
import { NBD_CMD_FLAG_FUA, NBD_EIO } from "../../protocol/constants.ts";
import { add, max, min, type Offset } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import { type Mover, Succession } from "../succession.ts";
import { Emitted } from "./emitted.ts";
import type { Emitter } from "./emitter.ts";
import {
  backwardWrite,
  clientCut,
  describe,
  type Failure,
  readBack,
  readerGone,
  sinkFailed,
} from "../failure.ts";
import { START, type StreamEvent } from "../messages.ts";
import type { Payload } from "./payload.ts";
import type { SequentialRule } from "./rule.ts";

/** A connection that may have its payload on its way. */
export interface TurnHolder extends Mover {
  /** The sink is lost: what is queued and the rest of the current payload get this error. */
  abandon(errno: number): void;
}

export interface WriteStreamOptions {
  /** Bytes that a client whose connection is lost may repeat when it comes back; 0 is none. */
  readonly remembered: number;
  /** NBD_CMD_FLUSH and NBD_CMD_FLAG_FUA are offered. */
  readonly flushes: boolean;
}

/** The state of the stream. */
export class WriteStream {
  /** Set when the stream is broken, for good. */
  failure: Failure | undefined;
  /** Its first bytes have been told, or there is nothing to tell of them. */
  begun = false;
  /** The connection whose payload is on its way; requests of two are never mixed. */
  writer: TurnHolder | undefined;
  /** What is out, for clients that come back; undefined where they may not. */
  readonly emitted: Emitted | undefined;
  /** Which connections count, where clients may come back. */
  readonly #succession: Succession | undefined;
  /** WRITEs that were cut off: from where to where they are missing, and what it means if it stays so. */
  #interrupted: { from: Offset; end: Offset; readonly failure: Failure } | undefined;
  /** It has been told that a client wanted to read what has gone by. */
  #readBack = false;

  /** NBD_CMD_FLAG_FUA where clients may use it, else 0. */
  readonly fua: number;

  constructor(
    readonly rule: SequentialRule,
    readonly emitter: Emitter,
    readonly post: (event: StreamEvent) => void,
    { remembered, flushes }: WriteStreamOptions,
  ) {
    this.fua = flushes ? NBD_CMD_FLAG_FUA : 0;
    if (remembered === 0) return;
    this.emitted = new Emitted(remembered);
    this.#succession = new Succession(post);
  }

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.post({ type: "broken", failure });
  }

  /** Tells what the stream begins with. @param bytes undefined for the zeroes of a gap */
  begin(bytes: Uint8Array | undefined): void {
    this.begun = true;
    if (bytes !== undefined) this.post({ type: "begins", bytes: bytes.slice(0, START) });
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
    if (!this.#readBack) {
      this.post({
        type: "read-back",
        ...readBack(request, this.rule.windowFor(request.offset)),
      });
    }
    this.#readBack = true;
  }

  /** A WRITE has been taken on. @param start of what is new of it, behind any gap */
  admitted(by: TurnHolder, start: Offset): void {
    this.moved(by);
    this.#madeGood(start);
  }

  /** Data goes out from `start` up to the head: a gap over what is missing does not make it good. */
  #madeGood(start: Offset): void {
    const missing = this.#interrupted;
    if (missing === undefined || start > missing.from || this.rule.head <= missing.from) return;
    missing.from = this.rule.head;
    if (missing.from >= missing.end) this.#interrupted = undefined;
  }

  /** A client goes on with the stream. */
  moved(by: TurnHolder): void {
    if (this.#succession?.moved(by) === true) this.post({ type: "resumed" });
  }

  /**
   * Whether a request below the head may be one that a client repeats after its connection was lost,
   * noticed or not. The connections that began before, one in the middle of that very request
   * perhaps, are cut then, and what they have not finished is dropped: the head may be lower after it.
   * When it is the connection itself that has been succeeded by another one, it is the one that is cut.
   *
   * @param own it has sent something there itself
   */
  mayRepeat(by: TurnHolder, offset: Offset, own: boolean): boolean {
    const [succession, emitted] = [this.#succession, this.emitted];
    if (succession === undefined || emitted === undefined) return false;
    if (succession.isOld(by)) {
      succession.replace(by);
      return false;
    }
    if (own) return false;
    succession.replaceOlder(by);
    return emitted.knows(offset);
  }

  /**
   * A request for [start, end), where something waits in the window. From a connection that a later
   * one has succeeded it is one that came late: what is held may be newer, and its client has been
   * told that it is safe. That connection is cut.
   */
  overtakes(by: TurnHolder, start: Offset, end: Offset): boolean {
    if (this.#succession?.isOld(by) !== true) return false;
    const held = this.rule.window?.runAt(start);
    if (held === undefined || held.start >= end) return false;
    this.#succession.replace(by);
    return true;
  }

  /** True where clients may come back, and a connection that began earlier has its payload on its way. */
  isTakenByOlder(by: TurnHolder): boolean {
    return (
      this.emitted !== undefined &&
      this.writer !== undefined &&
      this.writer.channel.id < by.channel.id
    );
  }

  /** A connection that moved the stream has ended. */
  left(by: TurnHolder): void {
    this.#succession?.left(by);
  }

  /** A client that has moved the stream is lost. */
  clientLost(by: TurnHolder): void {
    this.#succession?.lost(by);
  }

  /**
   * The writer has gone before all of its WRITEs are in the stream: what was promised of them is
   * taken back, and unless the client may come back to repeat it, the stream is broken. What came
   * out of the window stays: its client has been told that it is safe, and will not say it again.
   */
  cut(request: Request, payload: Payload): void {
    const { emitter, rule } = this;
    const failure = clientCut(request, payload.left, emitter.counters.emitted);
    this.writer = undefined;
    if (this.emitted === undefined) {
      emitter.clear();
      this.break(failure);
      return;
    }
    const end = rule.head;
    const { gap, bytes } = emitter.dropUnanswered();
    const dropped = add(gap, add(bytes, payload.emit));
    if (dropped === 0) return;
    rule.rewind(dropped);
    this.emitted.rewind(rule.head);
    const from = add(rule.head, gap);
    const before = this.#interrupted;
    this.#interrupted = {
      from: min(from, before?.from ?? from),
      end: max(end, before?.end ?? end),
      failure: before?.failure ?? failure,
    };
  }

  /** True while a WRITE was cut off that has not been repeated: zeroes that were asked for may lie behind it. */
  get isMissingData(): boolean {
    return this.#interrupted !== undefined;
  }

  /** No client comes back any more: what was cut off and not repeated breaks the stream. */
  endReconnect(): void {
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
    const { emitter, rule } = this;
    const start = rule.window?.start ?? rule.head;
    let at = start;
    const gap = rule.advance((address, length) => {
      emitter.pushBytes(address, length);
      this.emitted?.put(at, address, length);
      at = add(at, length);
    }, limit);
    emitter.pushZeroes(gap);
    emitter.promise();
    this.#madeGood(start);
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
