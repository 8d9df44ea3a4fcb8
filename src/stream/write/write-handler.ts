/** The request handler of a stream that is written: WRITE, from its header to its reply (doc/proto.md). */
import { MSG_PEEK } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { recv } from "../../../ffi/socket.ts";
import type { Failure } from "../../messages/notice.ts";
import {
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_OK,
} from "../../protocol/constants.ts";
import { add, max, min, type Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import {
  CALLED,
  INPUT_ENDED,
  MORE,
  type Step,
  WAIT_ENDPOINT,
  WAIT_INPUT,
  WAIT_TURN,
  YIELD,
} from "../step.ts";
import { SPLICE_MIN } from "../input.ts";
import type { RequestHandler } from "../stream.ts";
import { UnansweredWrites } from "./emitter.ts";
import { serveOther } from "./other-requests.ts";
import { RecentWrites } from "./sent-data.ts";
import type { Window } from "./window.ts";
import type { Writer, WriteState } from "./write-state.ts";
import { keepFromFtl } from "../no-ftl.ts";

/** The largest gap, in bytes, that is emitted for a client that sends no more. */
const LARGEST_GAP_AFTER_FIN = 2 ** 40;

export class WriteHandler implements RequestHandler, Writer {
  streamed: boolean;
  readonly #stream: WriteState;
  /** WRITEs whose payload the sink has not accepted yet. */
  readonly #unanswered = new UnansweredWrites();
  // Bytes of the current payload that are still to arrive, in this order.
  /** The sink has them already; they are only compared. */
  #skip = 0;
  /** They go to the sink, and the rule has claimed them. */
  #emit = 0;
  /** They go into the window. */
  #hold = 0;
  /** They are discarded: a refused payload, or the zeroes between the stream's end and the sector's. */
  #drop = 0;
  /** The stream position of the next of them. */
  #at: Offset = 0;
  /** The stream position of the part that goes into the window. */
  #heldStart: Offset = 0;
  /** What of that part no other connection has sent since: it is missing if this one is cut off. */
  #ownStart: Offset = 0;
  #ownEnd: Offset = 0;
  /** The reply to the current WRITE once all of it has arrived. */
  #status = NBD_OK;
  /** The reply to all WRITEs that are unanswered when the sink is lost. */
  #sinkError = NBD_OK;
  /** The window makes room for the next WRITE, which may replace its first data. */
  #makingRoom = false;
  /** The connection's own WRITEs; only where clients come back. */
  readonly #recent = new RecentWrites();

  constructor(
    readonly channel: Channel,
    stream: WriteState,
  ) {
    keepFromFtl(
      WriteHandler,
      this.#write,
      this.#judge,
      this.#isRepeat,
      this.#admit,
      this.#emitPayload,
      this.#takeTurn,
      this.#receive,
      this.#consumed,
      this.#moved,
      this.#replyFirst,
    );
    this.#stream = stream;
    // Where there is nothing to write, a client that comes has written all.
    this.streamed = stream.rule.size === 0;
    if (this.streamed) stream.reconnects?.moved(this);
  }

  get holdsInput(): boolean {
    return this.#isWriter || this.#inPayload;
  }

  get isRepeated(): boolean {
    return this.#hold > 0 && this.#ownStart >= this.#ownEnd;
  }

  get awaited(): number {
    return this.#emit;
  }

  get hasTurn(): boolean {
    return this.#stream.writer === undefined;
  }

  get busy(): boolean {
    if (this.#inPayload || this.#failsUnanswered) return true;
    const stream = this.#stream;
    return stream.windowIsNext && !this.#makingRoom && !stream.isWriterOlder(this);
  }

  /**
   * It is no use to emit a gap, which may take years, for a client that is gone, or before a payload that will
   * never arrive.
   */
  get cannotComplete(): boolean {
    if (!this.#isWriter) return false;
    const { gone, input, fd } = this.channel;
    const { emitter } = this.#stream;
    // TCP does not tell a client that is gone from one that only sends no more.
    if (gone ? emitter.gap > 0 : emitter.gap > LARGEST_GAP_AFTER_FIN) return true;
    // While the sink takes more, the bytes that have arrived are emitted first; reading then finds the end.
    const blocked = emitter.gap > 0 || !emitter.ready;
    return blocked && bytesReadable(fd) < this.#left - input.available;
  }

  /** Bytes of the current payload that are still to arrive. */
  get #left(): number {
    return this.#skip + this.#emit + this.#hold + this.#drop;
  }

  get #inPayload(): boolean {
    return this.#left > 0;
  }

  /** True when bytes of this connection may be queued for the sink. */
  get #isWriter(): boolean {
    return this.#stream.writer === this;
  }

  get #failsUnanswered(): boolean {
    return this.#sinkError !== NBD_OK && this.#unanswered.count > 0;
  }

  step(): Step {
    if (this.#failsUnanswered) return this.#replyFirst(this.#sinkError);
    if (this.#skip > 0) return this.#compare();
    if (this.#emit > 0) return this.#emitPayload();
    if (this.#hold > 0) return this.#holdPayload();
    if (this.#drop > 0) return this.#dropPayload();
    return this.#emitWindow();
  }

  serve(): Step {
    const { request, input } = this.channel;
    if (request.type === NBD_CMD_WRITE) return this.#write();
    // All other commands are answered in order: after the WRITEs before them.
    const step = this.flush();
    if (step !== MORE) return step;
    input.consumeHeader();
    if (serveOther(this.channel, this.#stream, this)) this.streamed = true;
    return MORE;
  }

  refused(error: number): void {
    const { request } = this.channel;
    if (request.type === NBD_CMD_WRITE_ZEROES) this.#stream.refuse(request, error);
  }

  flush(): Step {
    if (!this.#isWriter) return MORE;
    const { replies } = this.channel;
    const { emitter } = this.#stream;
    const out = emitter.flush();
    while (this.#unanswered.nextDue <= emitter.accepted) {
      const room = replies.makeRoom();
      if (room !== MORE) return room;
      this.#replyFirst(NBD_OK);
    }
    if (!out) return emitter.ready ? YIELD : WAIT_ENDPOINT;
    emitter.reset();
    const room = replies.makeRoom();
    if (room !== MORE) return room;
    if (this.#emit === 0 && this.#hold === 0) this.#stream.writer = undefined;
    return MORE;
  }

  sinkLost(error: number): void {
    this.#sinkError = error;
    if (this.#inPayload && this.#status === NBD_OK) this.#dropRest(error);
  }

  abort(): boolean {
    const queued = this.#isWriter && !this.#stream.emitter.idle;
    const midRequest = queued || this.#inPayload;
    const [missing, claimed] = [this.#left, this.#emit];
    const { request } = this.channel;
    if (this.#stream.holding.has(this)) {
      this.#stream.cutHeld(request, missing, this.#ownStart, this.#ownEnd);
    }
    this.#dropRest(this.#status);
    if (queued || claimed > 0) this.#stream.cut(request, missing, claimed);
    if (this.#isWriter) this.#stream.writer = undefined;
    this.#drop = 0;
    return midRequest;
  }

  supplied(start: Offset, end: Offset): void {
    if (start <= this.#ownStart) this.#ownStart = max(this.#ownStart, end);
    if (end >= this.#ownEnd) this.#ownEnd = min(this.#ownEnd, start);
  }

  clientLost(): void {
    this.#stream.reconnects?.lost(this);
  }

  closed(): void {
    this.#stream.reconnects?.closed(this);
  }

  /** Admits or refuses the WRITE whose header was just decoded, or waits for its turn. */
  #write(): Step {
    const { input, request } = this.channel;
    const error = this.#judge();
    if (this.channel.replaced) return YIELD;
    if (error !== NBD_OK || request.payload === 0) {
      this.#makingRoom = false;
      input.consumeHeader();
      this.#drop = request.payload;
      this.#status = error;
      if (request.payload === 0) this.channel.reply(error);
      return MORE;
    }
    const { rule, emitter } = this.#stream;
    const { plan } = rule;
    // An older connection in the middle of a payload may be dead. Data behind it waits in the window: the
    // next request may be the same payload again.
    const behindOlder = this.#stream.isWriterOlder(this);
    if (behindOlder && plan.kind === "emit") rule.holdBack(request.offset);
    if (plan.emit > 0 && !(behindOlder && plan.kind === "hold")) {
      const turn = this.#takeTurn();
      if (turn !== MORE) return turn;
      // A gap goes before the queue, the window's memory must be emitted before it is used again, and the
      // lists have their limits.
      if (this.#unanswered.full || (plan.gap > 0 && !emitter.idle)) return this.flush() || CALLED;
      this.#stream.writer = this;
      if (plan.kind === "advance") {
        this.#makingRoom = true;
        this.#stream.advanceWindow(request.offset);
        return MORE;
      }
    }
    this.#admit();
    return MORE;
  }

  /** Asks the rule about the current WRITE, and tells the stream if it is refused. */
  #judge(): number {
    const { request } = this.channel;
    const { offset, payload } = request;
    const stream = this.#stream;
    if (stream.failure !== undefined) return stream.failure.errno;
    const valid = this.channel.allows(stream.fua);
    if (payload === 0) return valid ? NBD_OK : NBD_EINVAL;
    if (stream.overtakes(this, offset, add(offset, payload))) return NBD_EIO;
    const error = valid ? stream.rule.planWrite(offset, payload, this.#isRepeat()) : NBD_EINVAL;
    if (error !== NBD_OK && !this.channel.replaced) stream.refuse(request, error);
    return error;
  }

  /** True when the current request lies below the head, and its client may be repeating it. */
  #isRepeat(): boolean {
    const { rule, sent } = this.#stream;
    const { offset, payload } = this.channel.request;
    const end = add(offset, payload);
    // A WRITE past the end of the disk is refused anyway.
    if (sent === undefined || offset >= rule.head || end > rule.advertised) return false;
    return this.#stream.mayRepeat(this, offset, this.#recent.overlap(offset, end));
  }

  #admit(): void {
    const { input, request } = this.channel;
    const { rule, emitter, sent } = this.#stream;
    const { plan } = rule;
    input.consumeHeader();
    this.#makingRoom = false;
    this.#status = NBD_OK;
    const start = plan.skip > 0 ? add(request.offset, plan.skip) : request.offset;
    const held = plan.kind === "hold";
    this.#at = request.offset;
    this.#skip = plan.skip;
    this.#emit = held ? 0 : plan.emit;
    this.#hold = held ? plan.emit : 0;
    this.#drop = plan.tail;
    if (held) {
      this.#heldStart = start;
      this.#ownStart = start;
      this.#ownEnd = this.#heldEnd;
      rule.reserve(start, this.#heldEnd, emitter.idle);
      if (sent !== undefined) this.#stream.holding.add(this);
    } else {
      rule.claim();
      if (plan.gap > 0) emitter.pushZeroes(plan.gap);
    }
    this.#stream.reconnects?.moved(this);
    if (!held) {
      const end = min(add(request.offset, request.payload), rule.head);
      this.#stream.supplied(this, request.offset, end);
    }
    if (sent === undefined) {
      // Receives headers alone, so that the payload behind them stays in the socket.
      input.headersOnly = request.payload >= SPLICE_MIN;
    } else {
      // Data that may have to be compared has to go through memory.
      const end = add(request.offset, request.payload);
      this.#recent.add(request.offset, end);
      this.#stream.latest?.add(request.offset, end);
    }
    this.streamed = true;
  }

  /** The end of the part that goes into the window. */
  get #heldEnd(): Offset {
    return add(this.#at, this.#skip + this.#hold);
  }

  #compare(): Step {
    const { input, request } = this.channel;
    const n = Math.min(this.#skip, input.available);
    if (n === 0) return this.#receive();
    if (this.#stream.sent?.matches(this.#at, input.peek(n)) === false) {
      this.#stream.refuse(request, NBD_EIO);
      this.#dropRest(NBD_EIO);
      return MORE;
    }
    this.#skip -= n;
    return this.#consumed(n);
  }

  #emitPayload(): Step {
    const { emitter, sent } = this.#stream;
    const { input, replies, fd } = this.channel;
    const n = Math.min(this.#emit, input.available);
    if (n > 0) {
      if (emitter.full) return this.flush();
      if (!this.#stream.start.isKnown) this.#stream.start.add(this.#at, input.address, n);
      sent?.put(this.#at, input.address, n);
      emitter.pushBytes(input.address, n);
      this.#emit -= n;
      return this.#consumed(n);
    }
    const step = this.flush();
    if (step !== MORE) return step;
    replies.flush();
    if (!input.headersOnly) return this.#receive();
    if (!emitter.ready) return WAIT_ENDPOINT;
    if (!this.#stream.start.isKnown) {
      const peeked = this.#peekStart();
      if (peeked !== MORE) return peeked;
    }
    const spliced = emitter.splice(fd, this.#emit);
    // Either side may block.
    if (spliced === WOULD_BLOCK) return WAIT_INPUT | WAIT_ENDPOINT;
    if (spliced === 0) return INPUT_ENDED;
    this.#emit -= spliced;
    this.#at = add(this.#at, spliced);
    return this.#moved() || CALLED;
  }

  /** Looks at the stream's first bytes before splice(2) takes them out of the socket. */
  #peekStart(): Step {
    const { start } = this.#stream;
    const wanted = Math.min(start.missing, this.#emit);
    const peeked = new Memory(wanted);
    const n = recv(this.channel.fd, peeked.at(0), wanted, MSG_PEEK);
    if (n === WOULD_BLOCK) return WAIT_INPUT;
    // splice(2) would also take what has come since; poll(2) would not wait for the rest.
    if (n < wanted) return this.#receive();
    start.add(this.#at, peeked.at(0), n);
    return MORE;
  }

  #holdPayload(): Step {
    const { failure, rule } = this.#stream;
    if (failure !== undefined) {
      this.#dropRest(failure.errno);
      return MORE;
    }
    const { input } = this.channel;
    const n = Math.min(this.#hold, input.available);
    if (n === 0) return this.#receiveHeld(rule.window as Window);
    const { address } = input;
    input.consume(n);
    return this.#store(rule.window as Window, n, address);
  }

  /** Receives more of what goes into the window: a large part for the spool does not go through memory. */
  #receiveHeld(window: Window): Step {
    const { input, fd } = this.channel;
    const length = input.headersOnly ? window.spooledFrom(this.#at, this.#hold) : 0;
    const spool = length < SPLICE_MIN ? undefined : window.spool;
    if (spool === undefined) return this.#receive();
    const step = this.flush();
    if (step !== MORE) return step;
    const n = spool.fill(fd, length);
    if (n === WOULD_BLOCK) return WAIT_INPUT;
    if (n === 0) return INPUT_ENDED;
    return this.#store(window, n) || CALLED;
  }

  /**
   * Puts `n` bytes, which have left the socket, into the window.
   *
   * @param address of the bytes; undefined for those that the spool has taken from the socket itself
   */
  #store(window: Window, n: number, address?: number): Step {
    let failure: Failure | undefined;
    try {
      if (address === undefined) window.spool?.store(this.#at);
      else window.put(this.#at, address, n);
      if (n === this.#hold) this.#holdWhole();
    } catch (error) {
      failure = this.#stream.spoolFailed(error);
    }
    this.#hold -= n;
    this.#at = add(this.#at, n);
    if (failure !== undefined) this.#dropRest(failure.errno);
    return this.#moved();
  }

  /** Holds a complete WRITE in the window, unless the stream has passed its position with other data. */
  #holdWhole(): void {
    const { rule } = this.#stream;
    const start = this.#heldStart;
    const end = this.#heldEnd;
    this.#stream.holding.delete(this);
    if (start >= rule.head || this.#isSent(start, end)) {
      this.#stream.supplied(this, start, end);
      rule.window?.hold(start, end);
      rule.window?.trim(rule.head);
      return;
    }
    rule.window?.forget(start, end);
    if (this.channel.replaced) return;
    this.#stream.refuse(this.channel.request, NBD_EIO);
    this.#status = NBD_EIO;
  }

  /**
   * True when the stream has passed [start, end) with the same data as the WRITE that has just arrived: an
   * older connection of the same client sent it, too, and is ended.
   */
  #isSent(start: Offset, end: Offset): boolean {
    const { rule, sent } = this.#stream;
    if (sent === undefined || rule.window === undefined) return false;
    const isSame = (bytes: Uint8Array) => sent.matches(start, bytes);
    if (!rule.window.reserved(start, min(end, rule.head), isSame)) return false;
    // The head may be lower afterwards; then all of the WRITE is held.
    return this.#stream.mayRepeat(this, start, false);
  }

  #dropPayload(): Step {
    const { input, request } = this.channel;
    const n = Math.min(this.#drop, input.available);
    if (n === 0) return this.#receive();
    if (this.#status === NBD_OK && input.peek(n).some((byte) => byte !== 0)) {
      this.#status = NBD_ENOSPC;
      this.#stream.refuse(request, NBD_ENOSPC);
    }
    this.#drop -= n;
    return this.#consumed(n);
  }

  /** Discards the rest of the payload. @param status the reply to it */
  #dropRest(status: number): void {
    // A part of a WRITE in the window is worth nothing without the rest.
    if (this.#hold > 0) this.#stream.rule.window?.forget(this.#heldStart, this.#heldEnd);
    this.#stream.holding.delete(this);
    this.#drop = this.#left;
    this.#skip = 0;
    this.#emit = 0;
    this.#hold = 0;
    this.#status = status;
  }

  /** Emits the run of the window that has become next in sequence. */
  #emitWindow(): Step {
    const step = this.#takeTurn() || this.flush();
    if (step !== MORE) return step;
    this.#stream.writer = this;
    this.#stream.advanceWindow();
    return MORE;
  }

  /** MORE unless the payload of another connection, even of one that was lost, is on its way. */
  #takeTurn(): Step {
    if (this.#isWriter) return MORE;
    if (this.#stream.writer !== undefined) return WAIT_TURN;
    const { emitter } = this.#stream;
    if (emitter.idle) return MORE;
    if (!emitter.flush()) return emitter.ready ? YIELD : WAIT_ENDPOINT;
    emitter.reset();
    return CALLED;
  }

  #receive(): Step {
    return this.flush() || this.channel.input.receivePayload();
  }

  #consumed(length: number): Step {
    this.channel.input.consume(length);
    this.#at = add(this.#at, length);
    return this.#moved();
  }

  /** A part of the payload has moved; the last part completes the WRITE. */
  #moved(): Step {
    if (this.#inPayload) return MORE;
    if (this.#status === NBD_OK && this.#isWriter) {
      // It gets its reply when the sink has accepted it.
      this.#unanswered.push(this.channel.request, this.#stream.emitter.queued);
    } else {
      this.channel.reply(this.#status);
    }
    return MORE;
  }

  #replyFirst(error: number): Step {
    this.channel.replies.done(this.#unanswered, error);
    this.#unanswered.shift();
    return MORE;
  }
}
