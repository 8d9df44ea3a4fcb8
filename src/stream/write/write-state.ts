/** The state that all connections to a stream that is written share. */
import { Memory } from "../../../ffi/memory.ts";
import type { EndpointError } from "../../endpoint/error.ts";
import type { Failure } from "../../messages/notice.ts";
import { NBD_CMD_FLAG_FUA, NBD_EIO } from "../../protocol/constants.ts";
import { add, type Offset, subtract } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import { backwardWrite, clientCut, describe, readBack } from "../failure.ts";
import type { Mover } from "../reconnect.ts";
import { SpoolError, type SpoolFile } from "../spool-file.ts";
import { WrittenState, type WrittenOptions } from "../written-state.ts";
import type { Emitter } from "./emitter.ts";
import type { SequentialRule } from "./rule.ts";
import { LatestWrites, SentData } from "./sent-data.ts";
import { StreamStart } from "./stream-start.ts";
import { SPOOL_PIECE } from "./window.ts";

/** The handler of a connection whose payload may be on its way to the sink. */
export interface Writer extends Mover {
  /** Bytes of its payload that the rule has claimed for the sink, and that have not arrived. */
  readonly awaited: number;
  /** The sink is lost. @param error the reply to what is queued, and to the current WRITE */
  sinkLost(error: number): void;
  /** Another connection has sent [start, end). Only while this one is in {@link WriteState.holding}. */
  supplied(start: Offset, end: Offset): void;
}

export interface WriteStateOptions extends Omit<WrittenOptions, "reconnect"> {
  /** Bytes that a client may send again when it comes back; 0 if clients may not come back. */
  readonly remembered: number;
  /** NBD_CMD_FLUSH and NBD_CMD_FLAG_FUA are offered. */
  readonly flushes: boolean;
}

export abstract class WriteState extends WrittenState {
  readonly start: StreamStart;
  /** The connection whose payload is on its way; two payloads are never mixed. */
  writer: Writer | undefined;
  /** Data that the sink has got, for clients that come back; undefined where they may not. */
  readonly sent: SentData | undefined;
  /** With a spool, of which far more may go out at once than can be remembered; only where clients may come back. */
  readonly latest: LatestWrites | undefined;
  /** Connections in the middle of a WRITE into the window; only where clients may come back. */
  readonly holding = new Set<Writer>();
  /** Data of the spool that is queued, where clients may come back. */
  #buffer: Memory | undefined;
  /** "read-back" has been posted. */
  #readBack = false;
  /** NBD_CMD_FLAG_FUA where clients may use it, else 0. */
  readonly fua: number;

  constructor(
    readonly rule: SequentialRule,
    readonly emitter: Emitter,
    { remembered, flushes, ...options }: WriteStateOptions,
  ) {
    super({ ...options, reconnect: remembered > 0 });
    this.start = new StreamStart(this.post);
    this.fua = flushes ? NBD_CMD_FLAG_FUA : 0;
    if (remembered === 0) return;
    this.sent = new SentData(remembered);
    if (rule.window?.spool !== undefined) this.latest = new LatestWrites(remembered);
  }

  /** A WRITE or WRITE_ZEROES is refused: below the head it breaks the stream. */
  refuse(request: Request, error: number): void {
    if (error === NBD_EIO) {
      this.break(backwardWrite(request, this.rule.head, this.rule.windowFor(request.offset)));
    } else {
      this.post({ type: "refused", request: describe(request), error });
    }
  }

  /** A client wants to read below the head. */
  readBack(request: Request): void {
    if (this.#readBack) return;
    this.#readBack = true;
    this.post({ type: "read-back", ...readBack(request, this.rule.windowFor(request.offset)) });
  }

  /** A client has sent data for [start, end). A gap over a missing range does not fill it. */
  supplied(by: Writer, start: Offset, end: Offset): void {
    this.got(start, end);
    if (this.holding.size === 0) return;
    for (const other of this.holding) if (other !== by) other.supplied(start, end);
  }

  /**
   * True if a client may be repeating a request below the head after its connection was lost, noticed or
   * not. Then this ends the older connections, of which one may be in the middle of that very request, and
   * drops their unfinished requests, so the head may be lower afterwards. If a later connection has moved
   * the stream, this one is old itself, and is ended.
   *
   * @param own this connection itself has sent something there
   */
  mayRepeat(by: Mover, offset: Offset, own: boolean): boolean {
    const { reconnects, sent } = this;
    if (reconnects === undefined || sent === undefined) return false;
    if (reconnects.isOld(by)) {
      reconnects.replace(by);
      return false;
    }
    if (own) return false;
    reconnects.replaceOlder(by);
    return sent.knows(offset);
  }

  /**
   * True for a request for [start, end) of an old connection, after a later one has moved the stream, if the
   * window holds a part of that range: that data may be newer, and its client has got a reply. Ends the old
   * connection.
   */
  overtakes(by: Mover, start: Offset, end: Offset): boolean {
    if (this.reconnects?.isOld(by) !== true) return false;
    const held = this.rule.window?.runAt(start);
    if (held === undefined || held.start >= end) return false;
    this.reconnects.replace(by);
    return true;
  }

  /** True where clients may come back, and a connection that began earlier has its payload on its way. */
  isWriterOlder(by: Writer): boolean {
    const { reconnects, writer } = this;
    return reconnects !== undefined && writer !== undefined && writer.channel.id < by.channel.id;
  }

  /**
   * The writer is gone before the sink has all of its WRITEs. Takes back what the rule has claimed for them,
   * and breaks the stream unless the client may come back and repeat them. Data from the window stays: its
   * client has got a reply, and will not send it again.
   *
   * @param request the current one, of which `missing` bytes have not arrived
   * @param claimed the number of these that were claimed for the sink
   */
  cut(request: Request, missing: number, claimed: number): void {
    const { emitter, rule } = this;
    const failure = clientCut(request, missing, emitter.counters.emitted);
    this.writer = undefined;
    if (this.sent === undefined) {
      emitter.clear();
      this.break(failure);
      return;
    }
    const end = rule.head;
    const { gap, bytes } = emitter.dropUnanswered();
    const dropped = add(gap, add(bytes, claimed));
    if (dropped === 0) return;
    rule.rewind(dropped);
    this.sent.rewind(rule.head);
    this.lack(add(rule.head, gap), end, failure);
  }

  /** A connection is gone in the middle of a WRITE into the window. What others have not sent is missing. */
  cutHeld(request: Request, missing: number, start: Offset, end: Offset): void {
    this.lack(start, end, clientCut(request, missing, this.emitter.counters.emitted));
  }

  /** True when the window's first run has to be emitted now. */
  get windowIsNext(): boolean {
    return this.failure === undefined && this.rule.windowIsNext;
  }

  /**
   * Queues the window's first run, and the gap before it as zeroes; only while nothing is queued.
   *
   * @param limit the same as for `SequentialRule.advance`
   */
  advanceWindow(limit?: Offset): void {
    const { emitter, rule, sent } = this;
    let at = rule.window?.start ?? rule.head;
    const pushBytes = (address: number, length: number) => {
      emitter.pushBytes(address, length);
      this.start.add(at, address, length);
      if (sent !== undefined) this.#remember(sent, at, address, length);
      at = add(at, length);
    };
    const gap = rule.advance(
      {
        pushBytes,
        pushFile: (file, from, length) => {
          // Data at the very start is there only after a client was lost, and seldom in the file.
          this.start.end();
          if (sent === undefined) emitter.pushFile(file, from, length);
          else this.#pushRead(file, from, length, pushBytes);
        },
      },
      limit,
    );
    emitter.pushZeroes(gap);
    emitter.markAnswered();
  }

  /** Remembers what a client may repeat of data from the window, which has got its replies. */
  #remember(sent: SentData, at: Offset, address: number, length: number): void {
    if (this.latest === undefined) {
      sent.put(at, address, length);
      return;
    }
    this.latest.each(at, add(at, length), (from, to, isLatest) => {
      const part = Number(subtract(to, from));
      if (isLatest) sent.put(from, address + Number(subtract(from, at)), part);
      else sent.skip(from, to);
    });
  }

  /** The sink, or the spool, has failed. */
  abstract endpointFailed(error: EndpointError): void;

  /** Does something with what is held. @returns why that is not possible */
  spooling(work: () => void): Failure | undefined {
    try {
      work();
      return undefined;
    } catch (error) {
      return this.spoolFailed(error);
    }
  }

  /** Takes what was caught when something was done with what is held. @throws it, unless the spool has failed */
  spoolFailed(error: unknown): Failure | undefined {
    if (!(error instanceof SpoolError)) throw error;
    this.endpointFailed(error);
    return this.failure;
  }

  /** Queues what the spool has in [start, start + length), through memory: a client may send it again. */
  #pushRead(
    file: SpoolFile,
    start: Offset,
    length: Offset,
    push: (address: number, length: number) => void,
  ): void {
    const buffer = (this.#buffer ??= new Memory(SPOOL_PIECE));
    file.read(start, buffer, 0, Number(length));
    file.release(add(start, length));
    push(buffer.at(0), Number(length));
  }

  /** The sink is lost, or data for it. */
  protected lost(failure: Failure): void {
    this.break(failure);
    this.writer?.sinkLost(failure.errno);
    this.writer = undefined;
  }
}
