/** A connection's WRITEs: from the header to the answer (doc/proto.md, NBD_CMD_WRITE). */
import { MSG_PEEK } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { recv } from "../../../ffi/socket.ts";
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../protocol/constants.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Channel, Step } from "../channel.ts";
import { SPLICE_MIN } from "../buffer-pool.ts";
import { START } from "../messages.ts";
import { Payload } from "./payload.ts";
import type { WriteStream, TurnHolder } from "./write-stream.ts";
import { Unanswered } from "./unanswered.ts";

/** A gap that a client which sends no more can still be waiting for, in bytes. */
const LARGEST_GAP_AFTER_FIN = 2 ** 40;

/** WRITEs of its own that a connection remembers; qemu has 16 at a time, nbdcopy 64. */
const OWN_REMEMBERED = 128;

/** The part of a connection that may be the stream's writer. */
export class Writer implements TurnHolder {
  /** True when the client sent data. */
  wrote = false;
  firstMove = 0;
  lastMove = 0;
  readonly #channel: Channel;
  readonly #stream: WriteStream;
  readonly #unanswered = new Unanswered();
  /** What is still to come of the current WRITE. */
  readonly #payload = new Payload();
  /** What of the current WRITE goes into the window: from where to where in the stream. */
  #heldStart: Offset = 0;
  #heldEnd: Offset = 0;
  /** The answer to the current WRITE once all of it has been dropped; NBD_OK for a sector's rest. */
  #status = NBD_OK;
  /** The answer to all that is unanswered, after {@link abandon}. */
  #abandoned = NBD_OK;
  /** The window is emptied for the next WRITE, which may replace what is first in it. */
  #makingRoom = false;

  /** Where this connection's latest WRITEs begin and end, in turn; only where clients come back. */
  readonly #own: Offset[] = [];
  #ownAt = 0;

  constructor(channel: Channel, stream: WriteStream) {
    this.#channel = channel;
    this.#stream = stream;
  }

  get channel(): Channel {
    return this.#channel;
  }

  /** True in the middle of a payload. */
  get inPayload(): boolean {
    return this.#payload.left > 0;
  }

  /** True when bytes of this connection may be queued for the sink. */
  get isWriter(): boolean {
    return this.#stream.writer === this;
  }

  /** True when {@link step} has something to do before the next request. */
  get busy(): boolean {
    if (this.#abandoned !== NBD_OK && this.#unanswered.count > 0) return true;
    if (this.inPayload) return true;
    const stream = this.#stream;
    return stream.windowIsNext && !this.#makingRoom && !stream.isTakenByOlder(this);
  }

  /** One step of the current WRITE, or of the window; only while busy and with room for a reply. */
  step(): Step {
    if (this.#abandoned !== NBD_OK && this.#unanswered.count > 0) {
      this.#answerFirst(this.#abandoned);
      return true;
    }
    const payload = this.#payload;
    if (payload.skip > 0) return this.#skip();
    if (payload.emit > 0) return this.#emit();
    if (payload.hold > 0) return this.#hold();
    if (payload.drop > 0) return this.#drop();
    return this.#emitWindow();
  }

  /**
   * Serves a WRITE whose header has just been decoded, and consumes the header once it can be taken
   * on.
   */
  serve(): boolean {
    const { input, request } = this.#channel;
    const error = this.#judge();
    if (this.#channel.replaced) return false;
    if (error !== NBD_OK || request.payload === 0) {
      this.#makingRoom = false;
      input.consume(this.#channel.headerSize);
      this.#payload.refuse(request.payload);
      this.#status = error;
      if (request.payload === 0) this.#channel.reply(error);
      return true;
    }
    const { rule, emitter } = this.#stream;
    const { plan } = rule;
    // An older connection in the middle of a payload may be dead. What is behind that waits in the
    // window: what comes next may be the same payload again.
    const behindOlder = this.#stream.isTakenByOlder(this);
    if (behindOlder && plan.kind === "emit") rule.holdBack(request.offset);
    if (plan.emit > 0 && !(behindOlder && plan.kind === "hold")) {
      if (!this.#takeTurn()) return false;
      // A gap comes before what is queued already, memory of the window must be out before it is
      // used again, and the lists have their limits.
      if (this.#unanswered.full || (plan.gap > 0 && !emitter.idle)) {
        this.#channel.calls--;
        return this.settle();
      }
      this.#stream.writer = this;
      if (plan.kind === "advance") {
        this.#makingRoom = true;
        this.#stream.advanceWindow(request.offset);
        return true;
      }
    }
    this.#admit();
    return true;
  }

  /**
   * Brings out what this connection has queued, and answers for it.
   *
   * @returns true when nothing of it is left and there is room for a reply
   */
  settle(): boolean {
    if (!this.isWriter) return true;
    const { emitter } = this.#stream;
    const out = emitter.flush();
    while (this.#unanswered.nextDue <= emitter.accepted) {
      if (!this.#channel.makeRoom()) return false;
      this.#answerFirst(NBD_OK);
    }
    if (!out) {
      this.#channel.needsEndpoint = !emitter.ready;
      return false;
    }
    emitter.reset();
    if (!this.#channel.makeRoom()) return false;
    if (this.#payload.emit === 0 && this.#payload.hold === 0) this.#stream.writer = undefined;
    return true;
  }

  abandon(errno: number): void {
    this.#abandoned = errno;
    if (this.inPayload && this.#status === NBD_OK) {
      this.#payload.abandon();
      this.#status = errno;
    }
    this.#channel.needsEndpoint = false;
  }

  /**
   * The client has closed its side. There is no point in emitting a gap, which may take years, for a
   * client that is gone, or what leads up to a payload that will never come.
   *
   * @returns true when what is under way cannot be completed: {@link lose} it
   */
  get hopeless(): boolean {
    if (!this.isWriter) return false;
    const { gone, input, fd } = this.#channel;
    const { emitter } = this.#stream;
    // TCP does not tell a client that is gone from one that only sends no more.
    if (gone ? emitter.gap > 0 : emitter.gap > LARGEST_GAP_AFTER_FIN) return true;
    // While the sink takes more, what has come goes out first; reading then finds the end by itself.
    const held = emitter.gap > 0 || !emitter.ready;
    return held && bytesReadable(fd) < this.#payload.left - input.available;
  }

  /** The client is gone. @returns true when that was in the middle of a WRITE */
  lose(): boolean {
    const queued = this.isWriter && !this.#stream.emitter.idle;
    const midRequest = queued || this.inPayload;
    const { request } = this.#channel;
    // What has come of a WRITE for the window counts for nothing without the rest.
    if (this.#payload.hold > 0) {
      this.#stream.rule.window?.forget(this.#heldStart, this.#heldEnd);
    }
    if (queued || this.#payload.promised) this.#stream.cut(request, this.#payload);
    if (this.isWriter) this.#stream.writer = undefined;
    this.#payload.refuse(0);
    return midRequest;
  }

  /** What the rule says to the current request, which is told to the stream if it refuses. */
  #judge(): number {
    const { request } = this.#channel;
    const stream = this.#stream;
    if (stream.failure !== undefined) return stream.failure.errno;
    const valid = this.#channel.allows(stream.fua);
    if (request.payload === 0) return valid ? NBD_OK : NBD_EINVAL;
    const end = add(request.offset, request.payload);
    if (stream.overtakes(this, request.offset, end)) return NBD_EIO;
    const error = valid
      ? stream.rule.planWrite(request.offset, request.payload, this.#isRepeat())
      : NBD_EINVAL;
    if (error !== NBD_OK && !this.#channel.replaced) stream.refuse(request, error);
    return error;
  }

  /** True when the current request lies below the head, and its client may be repeating it. */
  #isRepeat(): boolean {
    const stream = this.#stream;
    const { offset, payload } = this.#channel.request;
    if (stream.emitted === undefined || offset >= stream.rule.head) return false;
    // It is refused anyway.
    if (add(offset, payload) > stream.rule.advertised) return false;
    return stream.mayRepeat(this, offset, this.#hasSent(offset, payload));
  }

  /** True when this connection itself has sent data of [offset, offset + length). */
  #hasSent(offset: Offset, length: number): boolean {
    const own = this.#own;
    const end = add(offset, length);
    for (let i = 0; i < own.length; i += 2) {
      if ((own[i] as Offset) < end && offset < (own[i + 1] as Offset)) return true;
    }
    return false;
  }

  #admit(): void {
    const { input, request } = this.#channel;
    const { rule, emitter } = this.#stream;
    const { plan } = rule;
    input.consume(this.#channel.headerSize);
    this.#makingRoom = false;
    this.#status = NBD_OK;
    this.#payload.admit(plan, request.offset);
    if (plan.kind === "emit") {
      rule.claim();
      if (plan.gap > 0) emitter.pushZeroes(plan.gap);
    } else {
      this.#heldStart = this.#payload.holdAt;
      this.#heldEnd = add(this.#heldStart, this.#payload.hold);
      rule.window?.reserve(this.#heldStart, this.#heldEnd, emitter.idle);
    }
    this.#stream.admitted(this, add(request.offset, plan.skip));
    if (this.#stream.emitted === undefined) {
      this.#channel.large = request.payload >= SPLICE_MIN;
    } else {
      // What may have to be compared has to come through memory.
      this.#own[this.#ownAt++] = request.offset;
      this.#own[this.#ownAt++] = add(request.offset, request.payload);
      this.#ownAt %= 2 * OWN_REMEMBERED;
    }
    this.wrote = true;
  }

  #skip(): Step {
    const payload = this.#payload;
    const { input, request } = this.#channel;
    const n = this.#available(payload.skip);
    if (n === 0) return this.#receive();
    if (this.#stream.emitted?.matches(payload.skipAt, input.peek(n)) === false) {
      this.#stream.refuse(request, NBD_EIO);
      this.#status = NBD_EIO;
      payload.abandon();
      return true;
    }
    input.consume(n);
    payload.skip -= n;
    payload.skipAt = add(payload.skipAt, n);
    return this.#moved();
  }

  #emit(): Step {
    const { emitter } = this.#stream;
    const payload = this.#payload;
    const { input, replies, fd } = this.#channel;
    const n = this.#available(payload.emit);
    if (n > 0) {
      if (emitter.full) return this.settle();
      if (!this.#stream.begun) this.#begin(input.peek(n));
      const { rule, emitted } = this.#stream;
      emitted?.put(subtract(rule.head, payload.emit), input.address, n);
      emitter.pushBytes(input.address, n);
      input.consume(n);
      payload.emit -= n;
      return this.#moved();
    }
    if (!this.settle()) return false;
    replies.flush();
    if (!this.#channel.large) return this.#receive();
    if (!emitter.ready) return this.#channel.await("endpoint");
    this.#channel.calls--;
    if (!this.#stream.begun) this.#begin(this.#peek());
    const spliced = emitter.splice(fd, payload.emit);
    if (spliced === WOULD_BLOCK) {
      this.#channel.needsInput = true;
      return this.#channel.await("endpoint");
    }
    if (spliced === 0) return "end";
    payload.emit -= spliced;
    return this.#moved();
  }

  /** What comes next goes out first of all, unless a gap was before it. @param bytes some of it */
  #begin(bytes: Uint8Array): void {
    const { rule } = this.#stream;
    const first = rule.head === this.#payload.emit;
    if (!first) this.#stream.begin(undefined);
    else if (bytes.length > 0) this.#stream.begin(bytes);
  }

  /** What is in the socket of the payload, which stays there. */
  #peek(): Uint8Array {
    const start = new Memory(Math.min(START, this.#payload.emit));
    const n = recv(this.#channel.fd, start.at(0), start.length, MSG_PEEK);
    return start.bytes.subarray(0, Math.max(0, n));
  }

  #hold(): Step {
    const payload = this.#payload;
    const { input } = this.#channel;
    const n = this.#available(payload.hold);
    if (n === 0) return this.#receive();
    const { window } = this.#stream.rule;
    window?.put(payload.holdAt, input.peek(n));
    input.consume(n);
    payload.holdAt = add(payload.holdAt, n);
    payload.hold -= n;
    if (payload.hold === 0) this.#arrive();
    return this.#moved();
  }

  /** A WRITE is in the window whole, unless the stream has passed its place with other data meanwhile. */
  #arrive(): void {
    const { rule } = this.#stream;
    if (this.#heldStart >= rule.head || this.#isOut()) {
      rule.window?.hold(this.#heldStart, this.#heldEnd);
      rule.window?.trim(rule.head);
      return;
    }
    rule.window?.forget(this.#heldStart, this.#heldEnd);
    if (this.#channel.replaced) return;
    this.#stream.refuse(this.#channel.request, NBD_EIO);
    this.#status = NBD_EIO;
  }

  /**
   * True when the stream has passed the place of what has just come with the same data: an older
   * connection of the same client said it, too, and is cut.
   */
  #isOut(): boolean {
    const { rule, emitted } = this.#stream;
    if (emitted === undefined || rule.window === undefined) return false;
    const bytes = rule.window.reserved(this.#heldStart, min(this.#heldEnd, rule.head));
    if (!emitted.matches(this.#heldStart, bytes)) return false;
    // The head may be lower after it: all of the WRITE is held then.
    return this.#stream.mayRepeat(this, this.#heldStart, false);
  }

  #drop(): Step {
    const payload = this.#payload;
    const { input, request } = this.#channel;
    const n = this.#available(payload.drop);
    if (n === 0) return this.#receive();
    if (this.#status === NBD_OK && input.peek(n).some((byte) => byte !== 0)) {
      this.#status = NBD_ENOSPC;
      this.#stream.refuse(request, NBD_ENOSPC);
    }
    input.consume(n);
    payload.drop -= n;
    return this.#moved();
  }

  /** Sends out the run of the window that has become next in sequence. */
  #emitWindow(): boolean {
    if (!this.#takeTurn() || !this.settle()) return false;
    this.#stream.writer = this;
    this.#stream.advanceWindow();
    return true;
  }

  /** True unless another connection's payload, or what one that was lost has left, is on its way. */
  #takeTurn(): boolean {
    if (this.isWriter) return true;
    if (this.#stream.writer !== undefined) return this.#channel.await("turn");
    const { emitter } = this.#stream;
    if (emitter.idle) return true;
    this.#channel.calls--;
    if (!emitter.flush()) {
      this.#channel.needsEndpoint = !emitter.ready;
      return false;
    }
    emitter.reset();
    return true;
  }

  /** Bytes of a part of the payload that have been received. */
  #available(wanted: number): number {
    return Math.min(this.#channel.input.available, wanted);
  }

  #receive(): Step {
    if (!this.settle()) return false;
    const n = this.#channel.receive(true);
    if (n === WOULD_BLOCK) return this.#channel.await("input");
    return n > 0 ? true : "end";
  }

  /** A part of the payload has moved; the last one completes the WRITE. */
  #moved(): true {
    if (this.inPayload) return true;
    const { request } = this.#channel;
    if (this.#status === NBD_OK && this.isWriter) {
      // Answered when the sink has accepted it.
      this.#unanswered.push(request, this.#stream.emitter.queued);
    } else {
      this.#channel.reply(this.#status);
    }
    return true;
  }

  #answerFirst(error: number): void {
    this.#channel.answers.done(this.#unanswered, error);
    this.#unanswered.shift();
  }
}
