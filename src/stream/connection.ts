/** One client in the transmission phase (doc/proto.md, "Transmission"). */
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { bytesReadable, close } from "../../ffi/fd.ts";
import { SinkError } from "../endpoint/sink.ts";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_OK,
  NBD_REQUEST_SIZE,
} from "../protocol/constants.ts";
import { BLOCK_SIZE } from "../protocol/export.ts";
import { add } from "../protocol/offset.ts";
import { Request } from "../protocol/request.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { backwardWrite, describe } from "./failure.ts";
import { Input } from "./input.ts";
import type { ConnectionEnd } from "./messages.ts";
import { Payload } from "./payload.ts";
import { Replies } from "./replies.ts";
import type { Stream } from "./stream.ts";
import { Unanswered } from "./unanswered.ts";

/**
 * From this size on, a payload goes from socket to sink by splice(2), and headers are read alone so
 * that the payload behind them stays in the socket. Below it, one large recv(2) for many requests
 * and one writev(2) for their payloads cost less.
 */
const SPLICE_MIN = 32 * 1024;

/** A gap that a client which sends no more can still be waiting for, in bytes. */
const LARGEST_GAP_AFTER_FIN = 2 ** 40;

/** Calls for one connection that move data, before the others, and signals, get their turn. */
const CALLS_PER_TURN = 64;

/**
 * qemu-img without `-n` first "creates" the disk on a connection of its own, where it zeroes one
 * sector. Zeroes that end here do not make a client one that sent data.
 */
const CREATION_PROBE = 512;

/**
 * A connection's state machine. {@link advance} goes as far as it can without waiting; afterwards
 * the `needs…` fields say what it waits for, all of them at once.
 */
export class Connection {
  /** Set when the connection is over; {@link close} is still to be called. */
  ended: ConnectionEnd | undefined;
  /** True when the client sent data. */
  wrote = false;
  /** Cannot go on before the socket has something to read. */
  needsInput = false;
  /** Cannot go on before the socket takes more replies. */
  needsOutput = false;
  /** Cannot go on before the sink takes more. */
  needsSink = false;
  /** Cannot go on before another connection's WRITE is complete. */
  needsTurn = false;
  /** The client sends nothing more; it may still take replies. */
  halfClosed = false;
  /** The client is gone, and takes no replies either. */
  gone = false;
  /** When the connection began to wait for its client, by the engine's clock. */
  idleSince = 0;

  readonly #stream: Stream;
  readonly #input: Input;
  readonly #replies: Replies;
  readonly #request = new Request();
  readonly #unanswered = new Unanswered();
  /** What is still to come of the current WRITE. */
  readonly #payload = new Payload();
  /** The answer to the current WRITE once all of it has been dropped; NBD_OK for a sector's rest. */
  #status = NBD_OK;
  /** The answer to all that is unanswered, after {@link abandon}. */
  #abandoned = NBD_OK;
  /** The last WRITE was one for splice(2), and so will be the next. */
  #large = false;
  /** The window is emptied for the next WRITE, which may replace what is first in it. */
  #makingRoom = false;
  /** Of the current WRITE, how much goes into the window. */
  #heldLength = 0;
  /** What is left of CALLS_PER_TURN. */
  #calls = 0;
  #ending: ConnectionEnd | undefined;

  constructor(
    readonly id: number,
    readonly fd: number,
    leftover: Uint8Array,
    stream: Stream,
    pool: BufferPool,
  ) {
    this.#stream = stream;
    this.#input = new Input(fd, pool, leftover);
    this.#replies = new Replies(fd);
  }

  /** True when {@link advance} has something to do. */
  get runnable(): boolean {
    if (this.needsTurn && this.#stream.writer === undefined) this.needsTurn = false;
    if (this.needsSink && this.#stream.emitter.ready) this.needsSink = false;
    return !(this.needsInput || this.needsOutput || this.needsSink || this.needsTurn);
  }

  /** True while replies wait for the socket to take them. */
  get hasReplies(): boolean {
    return !this.#replies.empty;
  }

  /** Goes on until something has to be waited for, or others should have their turn. */
  advance(): void {
    try {
      this.#calls = CALLS_PER_TURN;
      while (this.#calls > 0 && this.#step());
      this.sendReplies();
    } catch (error) {
      if (error instanceof SinkError) this.#stream.sinkFailed(error);
      else if (error instanceof SyscallError) this.#lost();
      else throw error;
    }
    // In the middle of a payload its bytes are wanted where they are.
    if (this.#stream.writer !== this && this.#payload.left === 0) this.#input.release();
  }

  /** Sends what replies there are. */
  sendReplies(): void {
    this.#replies.flush();
  }

  /** The sink is lost: what is queued and the rest of the current payload get this error. */
  abandon(errno: number): void {
    this.#abandoned = errno;
    if (this.#payload.left > 0 && this.#status === NBD_OK) {
      this.#payload.abandon();
      this.#status = errno;
    }
    this.needsSink = false;
  }

  /** poll(2) says that the client has closed its side. @param both true when it cannot read either */
  hangUp(both: boolean): void {
    this.halfClosed = true;
    this.gone ||= both;
    this.#checkHangUp();
  }

  /**
   * Gives up what cannot be completed, or what nobody waits for: there is no point in emitting a gap,
   * which may take years, before a payload that will never come or for a client that is gone.
   */
  #checkHangUp(): void {
    const { writer, emitter } = this.#stream;
    if (writer !== this) return;
    const missing = this.#payload.left - this.#input.available;
    // TCP does not tell a client that is gone from one that only sends no more.
    const pointless = this.gone ? emitter.inGap : emitter.gap > LARGEST_GAP_AFTER_FIN;
    if (pointless || bytesReadable(this.fd) < missing) this.#lost();
  }

  /** Ends the connection from this side. */
  end(how: ConnectionEnd): void {
    this.#lost();
    this.ended = how;
  }

  close(): void {
    close(this.fd);
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    if (this.ended !== undefined) return false;
    if (this.#replies.full) {
      this.#calls--;
      if (!this.#replies.flush()) return this.#await("needsOutput");
    }
    if (this.#abandoned !== NBD_OK && this.#unanswered.count > 0) {
      this.#answerFirst(this.#abandoned);
      return true;
    }
    if (this.#ending !== undefined) return this.#finish(this.#ending);
    const payload = this.#payload;
    if (payload.skip > 0) return this.#skipPayload();
    if (payload.emit > 0) return this.#emitPayload();
    if (payload.hold > 0) return this.#holdPayload();
    if (payload.drop > 0) return this.#dropPayload();
    if (this.#stream.windowIsNext && !this.#makingRoom) return this.#emitWindow();
    if (this.#input.available >= NBD_REQUEST_SIZE) return this.#serve();
    if (!this.#settle()) return false;
    return this.#receive();
  }

  #await(what: "needsInput" | "needsOutput" | "needsSink" | "needsTurn"): false {
    this[what] = true;
    return false;
  }

  #finish(how: ConnectionEnd): boolean {
    if (!this.#replies.flush()) return this.#await("needsOutput");
    this.ended = how;
    return false;
  }

  /** The connection is gone, both ways. */
  #lost(): void {
    const queued = this.#stream.writer === this && !this.#stream.emitter.idle;
    const midRequest = queued || this.#payload.left > 0;
    if (queued || this.#payload.promised) this.#cut();
    this.#forgetHeld();
    if (this.#stream.writer === this) this.#stream.writer = undefined;
    this.ended ??= midRequest ? "cut" : "dropped";
  }

  /**
   * The client goes before all of its WRITEs are in the stream, of which a part may be out already.
   * The head has moved past what is missing, so the stream cannot go on.
   */
  #cut(): void {
    this.#stream.cut(this.#request, this.#payload);
    this.#payload.refuse(0);
  }

  /** What has come of a WRITE for the window counts for nothing without the rest. */
  #forgetHeld(): void {
    const { hold, holdAt } = this.#payload;
    if (hold > 0) this.#stream.rule.window?.forget(this.#request.offset, holdAt);
  }

  /** Takes more from the socket. */
  #receive(): boolean {
    const inPayload = this.#payload.left > 0;
    const exact = this.#large && !inPayload;
    this.#calls--;
    const n = this.#input.receive(exact ? NBD_REQUEST_SIZE - this.#input.available : undefined);
    if (n === WOULD_BLOCK) return this.#await("needsInput");
    if (n > 0) return true;
    if (this.#payload.promised) this.#cut();
    this.#forgetHeld();
    this.#ending = inPayload || this.#input.available > 0 ? "cut" : "dropped";
    return true;
  }

  /**
   * Brings out what this connection has queued, and answers for it.
   *
   * @returns true when nothing of it is left
   */
  #settle(): boolean {
    const { emitter } = this.#stream;
    if (this.#stream.writer !== this) return true;
    const out = emitter.flush();
    while (this.#unanswered.nextDue <= emitter.accepted) {
      if (this.#replies.full && !this.#replies.flush()) return this.#await("needsOutput");
      this.#answerFirst(NBD_OK);
    }
    if (!out) {
      this.needsSink = !emitter.ready;
      return false;
    }
    emitter.reset();
    // Whoever settles may add a reply.
    if (this.#replies.full && !this.#replies.flush()) return this.#await("needsOutput");
    if (this.#payload.emit === 0 && this.#payload.hold === 0) this.#stream.writer = undefined;
    return true;
  }

  #answerFirst(error: number): void {
    this.#replies.add(error, this.#unanswered.cookieHigh, this.#unanswered.cookieLow);
    this.#unanswered.shift();
  }

  #skipPayload(): boolean {
    const n = this.#available(this.#payload.skip);
    if (n === 0) return this.#settle() && this.#receive();
    this.#input.consume(n);
    this.#payload.skip -= n;
    return this.#moved();
  }

  #emitPayload(): boolean {
    const { emitter } = this.#stream;
    const payload = this.#payload;
    const n = this.#available(payload.emit);
    if (n > 0) {
      if (emitter.full) return this.#settle();
      emitter.pushBytes(this.#input.address, n);
      this.#input.consume(n);
      payload.emit -= n;
      return this.#moved();
    }
    if (!this.#settle()) return false;
    this.sendReplies();
    if (payload.emit < SPLICE_MIN) return this.#receive();
    if (!emitter.ready) return this.#await("needsSink");
    this.#calls--;
    const spliced = emitter.splice(this.fd, payload.emit);
    if (spliced === WOULD_BLOCK) {
      this.needsInput = true;
      return this.#await("needsSink");
    }
    if (spliced === 0) {
      this.#cut();
      this.#ending = "cut";
      return true;
    }
    payload.emit -= spliced;
    return this.#moved();
  }

  #holdPayload(): boolean {
    const payload = this.#payload;
    const n = this.#available(payload.hold);
    if (n === 0) return this.#settle() && this.#receive();
    this.#stream.rule.window?.put(payload.holdAt, this.#input.peek(n));
    this.#input.consume(n);
    payload.holdAt = add(payload.holdAt, n);
    payload.hold -= n;
    if (payload.hold === 0) this.#stream.rule.hold(this.#request.offset, this.#heldLength);
    return this.#moved();
  }

  #dropPayload(): boolean {
    const payload = this.#payload;
    const n = this.#available(payload.drop);
    if (n === 0) return this.#settle() && this.#receive();
    if (this.#status === NBD_OK && this.#input.peek(n).some((byte) => byte !== 0)) {
      this.#refuse(NBD_ENOSPC);
    }
    this.#input.consume(n);
    payload.drop -= n;
    return this.#moved();
  }

  /** Bytes of a part of the payload that have been received. */
  #available(wanted: number): number {
    return Math.min(this.#input.available, wanted);
  }

  /** A part of the payload has moved. @returns true: there may be more to do */
  #moved(): true {
    if (this.#payload.left === 0) {
      if (this.#status === NBD_OK) this.#written();
      else this.#reply(this.#status);
    }
    return true;
  }

  /** Sends out the run of the window that has become next in sequence. */
  #emitWindow(): boolean {
    if (!this.#takeTurn()) return false;
    if (!this.#settle()) return false;
    this.#stream.writer = this;
    this.#stream.advanceWindow();
    return true;
  }

  /** True unless another connection's payload is on its way. */
  #takeTurn(): boolean {
    const { writer } = this.#stream;
    return writer === undefined || writer === this || this.#await("needsTurn");
  }

  /** The current WRITE is complete; it is answered when the sink has accepted it. */
  #written(): void {
    const { writer, emitter } = this.#stream;
    if (writer !== this) {
      this.#reply(NBD_OK);
    } else {
      this.#unanswered.push(this.#request.cookieHigh, this.#request.cookieLow, emitter.queued);
    }
  }

  /** @param payload what a READ gets: bytes, or a number of zeroes */
  #reply(error: number, payload: Uint8Array | number = 0): void {
    this.#replies.add(error, this.#request.cookieHigh, this.#request.cookieLow, payload);
  }

  /** Answers the next request, or begins to. */
  #serve(): boolean {
    const request = this.#request;
    if (!request.decode(this.#input.view, this.#input.position)) {
      if (!this.#settle()) return false;
      this.#ending = "garbage";
      return true;
    }
    if (request.type === NBD_CMD_WRITE) return this.#serveWrite();
    // All other commands are answered in order: after the WRITEs before them.
    if (!this.#settle()) return false;
    this.#input.consume(NBD_REQUEST_SIZE);
    switch (request.type) {
      case NBD_CMD_READ:
        this.#serveRead();
        break;
      case NBD_CMD_WRITE_ZEROES:
        this.#serveWriteZeroes();
        break;
      case NBD_CMD_FLUSH:
        this.#reply(this.#allows(NBD_CMD_FLAG_FUA) ? this.#state() : NBD_EINVAL);
        break;
      case NBD_CMD_DISC:
        this.#ending = "disconnected";
        break;
      default:
        this.#reply(NBD_EINVAL);
    }
    return true;
  }

  /** True when the request has no flags but these. */
  #allows(flags: number): boolean {
    return (this.#request.flags & ~flags) === 0;
  }

  /** NBD_OK, or why nothing can be written any more. */
  #state(): number {
    return this.#stream.failure?.errno ?? NBD_OK;
  }

  #serveRead(): void {
    const { offset, length } = this.#request;
    let error = NBD_EINVAL;
    if (this.#allows(NBD_CMD_FLAG_FUA) && length <= BLOCK_SIZE.maximum) {
      error = this.#stream.rule.read(offset, length);
    }
    if (error === NBD_EIO) this.#stream.readBack(this.#request);
    if (error !== NBD_OK) this.#reply(error);
    else this.#reply(NBD_OK, this.#stream.rule.window?.read(offset, length) ?? length);
  }

  #serveWriteZeroes(): void {
    const { offset, length } = this.#request;
    if (!this.#allows(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE)) {
      this.#reply(NBD_EINVAL);
      return;
    }
    let error = this.#state();
    if (error === NBD_OK && length > 0) {
      error = this.#stream.rule.zero(offset, length);
      if (error !== NBD_OK) this.#refuse(error);
      else if (add(offset, length) > CREATION_PROBE) this.wrote = true;
    }
    this.#reply(error);
  }

  #serveWrite(): boolean {
    const { rule, emitter } = this.#stream;
    const { offset, length } = this.#request;
    let error = this.#allows(NBD_CMD_FLAG_FUA) ? this.#state() : NBD_EINVAL;
    if (error === NBD_OK && length > 0) {
      error = rule.planWrite(offset, length, this.#stream.isReplay(this.#request));
      if (error !== NBD_OK) this.#refuse(error);
    } else if (error === NBD_EINVAL) {
      this.#refuse(error);
    }
    if (error !== NBD_OK || length === 0) {
      this.#makingRoom = false;
      this.#input.consume(NBD_REQUEST_SIZE);
      this.#payload.refuse(length);
      this.#status = error;
      if (length === 0) this.#reply(error);
      return true;
    }
    const { plan } = rule;
    if (plan.emit > 0) {
      if (!this.#takeTurn()) return false;
      // A gap comes before what is queued already, memory of the window must be out before it is
      // used again, and the lists have their limits.
      if (this.#unanswered.full || (plan.gap > 0 && !emitter.idle)) {
        this.#calls--;
        return this.#settle();
      }
      this.#stream.writer = this;
      if (plan.kind === "advance") {
        this.#makingRoom = true;
        this.#stream.advanceWindow(offset);
        return true;
      }
    }
    this.#makingRoom = false;
    this.#input.consume(NBD_REQUEST_SIZE);
    this.#payload.admit(plan, offset);
    this.#heldLength = this.#payload.hold;
    if (plan.kind === "emit") {
      rule.claim();
      if (plan.gap > 0) emitter.pushZeroes(plan.gap);
      if (plan.gap > 0 && this.halfClosed) this.#checkHangUp();
    }
    this.#stream.admitted(this.#request);
    this.#status = NBD_OK;
    this.#large = length >= SPLICE_MIN;
    this.wrote = true;
    return true;
  }

  /** The rule has refused the current request. */
  #refuse(error: number): void {
    this.#status = error;
    if (error === NBD_EIO) {
      const { rule } = this.#stream;
      const { offset } = this.#request;
      this.#stream.break(backwardWrite(this.#request, rule.head, rule.windowFor(offset)));
    } else {
      this.#stream.post({ type: "refused", request: describe(this.#request), error });
    }
  }
}
