/** The request handler of a stream that is held back: an ordinary disk (doc/proto.md, "Transmission phase"). */
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_ESHUTDOWN,
  NBD_OK,
} from "../../protocol/constants.ts";
import { add, max, min, type Offset, roundUp, subtract } from "../../protocol/offset.ts";
import { SECTOR_SIZE } from "../../protocol/export.ts";
import type { Channel } from "../channel.ts";
import { SPLICE_MIN } from "../input.ts";
import { keepFromFtl } from "../no-ftl.ts";
import { INLINE_MAX, SPOOL_UNREADABLE } from "../replies.ts";
import { Runs } from "../runs.ts";
import { SpoolError } from "../spool-file.ts";
import { CALLED, INPUT_ENDED, MORE, type Step, WAIT_INPUT, YIELD } from "../step.ts";
import type { RequestHandler } from "../stream.ts";
import type { Changer, HoldState } from "./hold-state.ts";
import { PART, StoredBody } from "./stored-body.ts";

/** The fewest bytes of a hole that the reply to a READ does not spell out. */
const HOLE_MIN = 64 * 1024;

export class HoldHandler implements RequestHandler, Changer {
  streamed: boolean;
  readonly holdsInput = false;
  readonly hasTurn = true;
  readonly cannotComplete = false;
  readonly overtaken = new Runs();
  readonly #stream: HoldState;
  /** Bytes of the payload that are still to arrive, and the position of the next one. */
  #left = 0;
  #at: Offset = 0;
  /** What is left to be zeroed, [at, end). */
  #zeroAt: Offset = 0;
  #zeroEnd: Offset = 0;
  /** What is left to be read, [at, end). */
  #readAt: Offset = 0;
  #readEnd: Offset = 0;
  /** The reply to the current WRITE, WRITE_ZEROES or TRIM. */
  #status = NBD_OK;
  readonly #body: StoredBody;

  constructor(
    readonly channel: Channel,
    stream: HoldState,
  ) {
    keepFromFtl(HoldHandler, this.#write, this.#payload, this.#store);
    this.#stream = stream;
    // Where there is nothing to write, a client that comes has written all.
    this.streamed = stream.size === 0;
    if (this.streamed) stream.reconnects?.moved(this);
    this.#body = new StoredBody(stream.spool);
    stream.connected(this);
  }

  get isRepeated(): boolean {
    return this.#left > 0 && this.overtaken.covers(this.#at, add(this.#at, this.#left));
  }

  get #changes(): boolean {
    return this.#left > 0 || this.#zeroAt < this.#zeroEnd;
  }

  get busy(): boolean {
    return this.#changes || this.#readAt < this.#readEnd;
  }

  step(): Step {
    if (this.#left > 0) return this.#payload();
    return this.#zeroAt < this.#zeroEnd ? this.#zeroMore() : this.#readMore();
  }

  flush(): Step {
    return MORE;
  }

  serve(): Step {
    const { channel } = this;
    const { request, input } = channel;
    input.consumeHeader();
    switch (request.type) {
      case NBD_CMD_READ:
        this.#read();
        break;
      case NBD_CMD_WRITE:
        return this.#write();
      case NBD_CMD_WRITE_ZEROES:
        return this.#zero();
      case NBD_CMD_TRIM:
        return this.#trim();
      case NBD_CMD_FLUSH:
        // The disk does not outlive this process, so there is nothing to make safe.
        channel.reply(channel.allows(NBD_CMD_FLAG_FUA) ? this.#stream.refusal : NBD_EINVAL);
        break;
      case NBD_CMD_BLOCK_STATUS:
        this.#blockStatus();
        break;
      default:
        channel.reply(NBD_EINVAL);
    }
    return MORE;
  }

  refused(error: number): void {
    const { request } = this.channel;
    if (request.type === NBD_CMD_WRITE_ZEROES) this.#stream.refuse(request, error);
  }

  abort(): boolean {
    const midRequest = this.#changes;
    const { request } = this.channel;
    // What a TRIM has not done is no loss.
    if (midRequest && this.#status === NBD_OK && request.type !== NBD_CMD_TRIM) {
      const { offset, length } = request;
      const end = add(offset, this.#stream.inside(offset, length));
      this.#stream.cut(this, request, this.#left, offset, end);
    }
    this.#left = 0;
    this.#zeroEnd = this.#zeroAt;
    this.#readEnd = this.#readAt;
    return midRequest;
  }

  clientLost(): void {
    this.#stream.reconnects?.lost(this);
  }

  closed(): void {
    this.#stream.closed(this);
  }

  /**
   * Judges a request that changes the disk.
   *
   * @param flags `NBD_CMD_FLAG_*` that it may have
   * @returns NBD_OK or the reply to it
   */
  #judge(flags: number): number {
    const { request } = this.channel;
    const { refusal, advertised } = this.#stream;
    if (refusal !== NBD_OK) return refusal;
    if (!this.channel.allows(flags)) return NBD_EINVAL;
    return add(request.offset, request.length) > advertised ? NBD_ENOSPC : NBD_OK;
  }

  /** A WRITE or WRITE_ZEROES is not done: unless it is empty, the stream lacks its data. */
  #refuse(error: number): void {
    const { request } = this.channel;
    const stream = this.#stream;
    // With a failure, the stream is truncated anyway.
    if (stream.failure === undefined && request.length > 0) stream.refuse(request, error);
  }

  #write(): Step {
    const { channel } = this;
    const { request, input } = channel;
    const { offset, payload } = request;
    const stream = this.#stream;
    this.#status = this.#judge(NBD_CMD_FLAG_FUA);
    if (this.#status !== NBD_OK) this.#refuse(this.#status);
    if (payload === 0) {
      channel.reply(this.#status);
      return MORE;
    }
    if (stream.isOvertaken(this, offset, add(offset, payload))) return YIELD;
    this.#left = payload;
    this.#at = offset;
    if (this.#status === NBD_OK) {
      this.streamed = true;
      stream.moved(this);
      // Then the payload behind a header stays in the socket.
      input.headersOnly = payload >= SPLICE_MIN;
    }
    return MORE;
  }

  /** Takes a part of the payload. */
  #payload(): Step {
    const { input, fd } = this.channel;
    const stream = this.#stream;
    const { spool } = stream;
    if (stream.isOvertaken(this, this.#at, add(this.#at, this.#left))) return YIELD;
    const n = Math.min(this.#left, input.available);
    const isStored = this.#status === NBD_OK && stream.refusal === NBD_OK;
    if (n > 0) {
      const inside = Number(stream.inside(this.#at, n));
      if (isStored) {
        if (inside < n && !isZero(input.peek(n).subarray(inside))) this.#refuseTail();
        if (inside > 0) this.#store(inside, () => spool.write(this.#at, input.address, inside));
      }
      input.consume(n);
      return this.#moved(n);
    }
    const length = Number(stream.inside(this.#at, this.#left));
    if (!isStored || !input.headersOnly || length < SPLICE_MIN) return input.receivePayload();
    const taken = spool.fill(fd, length);
    if (taken === WOULD_BLOCK) return WAIT_INPUT;
    if (taken === 0) return INPUT_ENDED;
    this.#store(taken, () => spool.store(this.#at));
    this.#moved(taken);
    return CALLED;
  }

  /** Data behind the stream's end, in its last sector. */
  #refuseTail(): void {
    this.#status = NBD_ENOSPC;
    this.#refuse(NBD_ENOSPC);
  }

  /** Stores `n` bytes of the payload, all of which are in the stream. */
  #store(n: number, store: () => void): void {
    const stream = this.#stream;
    const end = add(this.#at, n);
    // Even if the rest never comes.
    stream.dataEnd = max(stream.dataEnd, end);
    stream.changed(this, this.#at, end);
    this.#spooling(store);
  }

  /** Changes the disk, unless it must not change any more; a failure becomes the reply. */
  #spooling(work: () => void): void {
    const { refusal } = this.#stream;
    if (refusal !== NBD_OK) {
      this.#status = refusal;
      return;
    }
    try {
      work();
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      this.#stream.endpointFailed(error);
      this.#status = this.#stream.refusal;
    }
  }

  /** `n` bytes of the payload have gone; the last of them complete the WRITE. */
  #moved(n: number): Step {
    this.#left -= n;
    this.#at = add(this.#at, n);
    if (this.#left === 0) this.#complete();
    return MORE;
  }

  /** Replies to a WRITE, WRITE_ZEROES or TRIM. */
  #complete(): void {
    const { offset, length, type } = this.channel.request;
    const stream = this.#stream;
    if (this.#status === NBD_OK) this.#status = stream.refusal;
    if (this.#status === NBD_OK) {
      stream.completed(offset, add(offset, stream.inside(offset, length)));
      if (type !== NBD_CMD_TRIM) stream.lengthen(add(offset, length));
    } else if (this.#status === NBD_ESHUTDOWN) {
      // It came too late to be a part of the stream.
      this.#refuse(NBD_ESHUTDOWN);
    }
    this.channel.reply(this.#status);
  }

  #zero(): Step {
    const { request } = this.channel;
    const stream = this.#stream;
    const { punches } = stream.spool;
    const quick = punches ? NBD_CMD_FLAG_FAST_ZERO : 0;
    const status = this.#judge(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | quick);
    if (status !== NBD_OK) this.#refuse(status);
    if (status !== NBD_OK || request.length === 0) {
      this.channel.reply(status);
      return MORE;
    }
    const isFast = (request.flags & NBD_CMD_FLAG_FAST_ZERO) !== 0;
    if (isFast && this.#allocates && !stream.spool.zeroesInPlace) {
      // The client takes that for "not quickly", and writes the zeroes itself, or asks again.
      this.channel.reply(NBD_ENOTSUP);
      return MORE;
    }
    return this.#beginZeroes(stream.countsZeroes(add(request.offset, request.length)));
  }

  /** The current WRITE_ZEROES wants room on the disk for its zeroes. */
  get #allocates(): boolean {
    return (this.channel.request.flags & NBD_CMD_FLAG_NO_HOLE) !== 0;
  }

  #trim(): Step {
    const { request } = this.channel;
    const stream = this.#stream;
    // Where it is not offered it is as any command that is not known.
    let status = stream.spool.punches ? this.#judge(NBD_CMD_FLAG_FUA) : NBD_EINVAL;
    // A client may do without a TRIM, so its refusal is no loss. It "SHOULD" be NBD_EINVAL past the end.
    if (status === NBD_ENOSPC && stream.failure === undefined) status = NBD_EINVAL;
    if (status === NBD_OK && request.length > 0) return this.#beginZeroes(true);
    this.channel.reply(status);
    return MORE;
  }

  /** @param moves the request counts as one that changes the disk */
  #beginZeroes(moves: boolean): Step {
    const stream = this.#stream;
    const { offset, length } = this.channel.request;
    const end = add(offset, stream.inside(offset, length));
    if (stream.isOvertaken(this, offset, end)) return YIELD;
    if (moves) {
      this.streamed = true;
      stream.moved(this);
    }
    this.#status = NBD_OK;
    this.#zeroAt = offset;
    this.#zeroEnd = end;
    if (!this.#allocates) {
      // Behind the data there is a hole already.
      this.#spooling(() => {
        this.#zeroEnd = max(offset, min(end, stream.spool.length));
      });
    }
    if (this.#status !== NBD_OK) this.#zeroEnd = offset;
    stream.changed(this, this.#zeroEnd, end);
    if (this.#zeroAt === this.#zeroEnd) this.#complete();
    return MORE;
  }

  #zeroMore(): Step {
    const stream = this.#stream;
    const at = this.#zeroAt;
    if (stream.isOvertaken(this, at, this.#zeroEnd)) return YIELD;
    const length = subtract(this.#zeroEnd, at);
    this.#status = stream.refusal;
    if (this.#status === NBD_OK) {
      this.#spooling(() => {
        this.#zeroAt = add(at, stream.spool.zero(at, length, this.#allocates));
      });
      stream.changed(this, at, this.#zeroAt);
    }
    if (this.#status !== NBD_OK) this.#zeroAt = this.#zeroEnd;
    if (this.#zeroAt === this.#zeroEnd) this.#complete();
    return CALLED;
  }

  /** Data up to the end of its sector: replies "SHOULD" have whole sectors, and zeroes may count as data. */
  #blockStatus(): void {
    const { channel } = this;
    const { replies, request } = channel;
    const { advertised, spool, refusal } = this.#stream;
    if (refusal !== NBD_OK) {
      replies.refuse(request, refusal, BROKEN);
      return;
    }
    this.#reading(() => {
      channel.replyBlockStatus(advertised, NBD_CMD_FLAG_FUA, (at) => {
        const [data, until] = spool.dataAt(at);
        return data && until !== undefined ? [data, roundUp(until, SECTOR_SIZE)] : [data, until];
      });
    });
  }

  #read(): void {
    const { channel } = this;
    const { request, replies } = channel;
    const { offset, length } = request;
    const end = add(offset, length);
    if (!channel.isValidRead || end > this.#stream.advertised) {
      replies.refuseInvalid(request);
    } else if (length === 0) {
      replies.nothing(request);
    } else {
      this.#readAt = offset;
      this.#readEnd = end;
    }
  }

  /** Sends the next part of a READ; only while no body of it is on its way. */
  #readMore(): Step {
    const { channel } = this;
    const { request, replies } = channel;
    const { refusal } = this.#stream;
    if (channel.gone || refusal !== NBD_OK) {
      if (!channel.gone) replies.refuse(request, refusal, BROKEN);
      this.#readEnd = this.#readAt;
      return MORE;
    }
    const left = Number(subtract(this.#readEnd, this.#readAt));
    const { structured } = replies.negotiated;
    const isUnfragmented = (request.flags & NBD_CMD_FLAG_DF) !== 0;
    // In chunks, of which each has its data at hand, there can be an error behind some of them. One that is not to
    // be fragmented is like a simple reply: clients that take none of it must not make the memory grow.
    const part = structured && !isUnfragmented ? Math.min(left, PART) : left;
    if (part <= INLINE_MAX) {
      const room = replies.makeRoom(part);
      if (room !== MORE) return room;
    }
    this.#reading(() => this.#replyPart(part, left, isUnfragmented));
    return CALLED;
  }

  /** @param part bytes that one chunk, or simple reply, takes at most, of all those that are left */
  #replyPart(part: number, left: number, isUnfragmented: boolean): void {
    const { request, replies } = this.channel;
    const at = this.#readAt;
    const hole = this.#holeAt(at, left);
    if (hole === left && at === request.offset) {
      this.#readAt = this.#readEnd;
      replies.zeroes(request);
      return;
    }
    if (replies.negotiated.structured && !isUnfragmented && (hole === left || hole >= HOLE_MIN)) {
      this.#readAt = add(at, hole);
      replies.hole(request, at, hole, hole === left);
      return;
    }
    // The first of it is read before the header is written, so that there can be an error instead.
    this.#body.start(at, part);
    this.#readAt = add(at, part);
    replies.data(request, at, part, part === left);
    if (part > INLINE_MAX) {
      replies.follow(this.#body);
      return;
    }
    this.#body.copyTo(replies.memory, replies.end);
    replies.added(part);
  }

  /** Bytes of a hole at a position, at most `length`. */
  #holeAt(at: Offset, length: number): number {
    const [data, until] = this.#stream.spool.dataAt(at);
    if (data) return 0;
    return until === undefined ? length : Number(min(subtract(until, at), length));
  }

  /** Reads from the spool, whose failure becomes the reply to the current READ or BLOCK_STATUS. */
  #reading(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      const { replies, request } = this.channel;
      this.#stream.endpointFailed(error);
      this.#readEnd = this.#readAt;
      replies.refuse(request, this.#stream.refusal, SPOOL_UNREADABLE);
    }
  }
}

/** What clients are told that take a text. */
const BROKEN = "the stream is broken, or goes out already";

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
