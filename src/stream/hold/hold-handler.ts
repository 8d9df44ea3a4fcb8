/** The request handler of a stream that is held back: an ordinary disk (doc/proto.md, "Transmission phase"). */
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import {
  NBD_CMD_BLOCK_STATUS,
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
  NBD_OK,
} from "../../protocol/constants.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import { SPLICE_MIN } from "../input.ts";
import { keepFromFtl } from "../no-ftl.ts";
import { Runs } from "../runs.ts";
import { SpoolError } from "../spool-file.ts";
import { CALLED, INPUT_ENDED, MORE, type Step, WAIT_INPUT, YIELD } from "../step.ts";
import type { RequestHandler } from "../stream.ts";
import { CREATION_PROBE } from "../write/other-requests.ts";
import type { Changer, HoldState } from "./hold-state.ts";
import { StoredBody } from "./stored-body.ts";

/** Bytes of a hole that is made in one step, so that other connections have their turn. */
const HOLE_PER_STEP = 2 ** 30;

export class HoldHandler implements RequestHandler, Changer {
  streamed = false;
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
  /** The reply to the current WRITE, WRITE_ZEROES or TRIM. */
  #status = NBD_OK;
  readonly #body: StoredBody;

  constructor(
    readonly channel: Channel,
    stream: HoldState,
  ) {
    keepFromFtl(HoldHandler, this.#write, this.#payload, this.#store);
    this.#stream = stream;
    this.#body = new StoredBody(stream.spool);
    stream.connected(this);
  }

  get isRepeated(): boolean {
    return this.#left > 0 && this.overtaken.covers(this.#at, add(this.#at, this.#left));
  }

  get busy(): boolean {
    return this.#left > 0 || this.#zeroAt < this.#zeroEnd;
  }

  step(): Step {
    return this.#left > 0 ? this.#payload() : this.#zeroMore();
  }

  flush(): Step {
    return MORE;
  }

  serve(): Step {
    const { channel } = this;
    const { request, input } = channel;
    if (request.type === NBD_CMD_READ) return this.#read();
    input.consumeHeader();
    switch (request.type) {
      case NBD_CMD_WRITE:
        return this.#write();
      case NBD_CMD_WRITE_ZEROES:
        return this.#zero();
      case NBD_CMD_TRIM:
        return this.#trim();
      case NBD_CMD_FLUSH:
        // The disk does not outlive this process, so there is nothing to make safe.
        channel.reply(channel.allows(NBD_CMD_FLAG_FUA) ? this.#failure : NBD_EINVAL);
        break;
      case NBD_CMD_BLOCK_STATUS:
        channel.replyBlockStatus(this.#stream.advertised, (at) => this.#stream.spool.dataAt(at));
        break;
      default:
        channel.reply(NBD_EINVAL);
    }
    return MORE;
  }

  /** The `NBD_E*` of a stream that is broken; NBD_OK of one that is not. */
  get #failure(): number {
    return this.#stream.failure?.errno ?? NBD_OK;
  }

  refused(error: number): void {
    const { request } = this.channel;
    if (request.type === NBD_CMD_WRITE_ZEROES) this.#stream.refuse(request, error);
  }

  abort(): boolean {
    const midRequest = this.busy;
    const { request } = this.channel;
    if (midRequest && this.#status === NBD_OK) {
      const end = add(request.offset, request.length);
      this.#stream.cut(this, request, this.#left, request.offset, end);
    }
    this.#left = 0;
    this.#zeroEnd = this.#zeroAt;
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
    const stream = this.#stream;
    if (this.#failure !== NBD_OK) return this.#failure;
    if (!this.channel.allows(flags)) return NBD_EINVAL;
    return add(request.offset, request.length) > stream.advertised ? NBD_ENOSPC : NBD_OK;
  }

  #write(): Step {
    const { channel } = this;
    const { request, input } = channel;
    const { offset, payload } = request;
    const stream = this.#stream;
    if (stream.isOvertaken(this, offset, add(offset, payload))) return YIELD;
    this.#status = this.#judge(NBD_CMD_FLAG_FUA);
    if (this.#status !== NBD_OK && this.#failure === NBD_OK && payload > 0) {
      stream.refuse(request, this.#status);
    }
    this.#left = payload;
    this.#at = offset;
    if (payload === 0) {
      channel.reply(this.#status);
      return MORE;
    }
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
    const end = add(this.#at, this.#left);
    if (stream.isOvertaken(this, this.#at, end)) return YIELD;
    const n = Math.min(this.#left, input.available);
    const isStored = this.#status === NBD_OK && stream.failure === undefined;
    if (n > 0) {
      const { address } = input;
      const inside = Number(subtract(stream.inside(this.#at, n), this.#at));
      if (isStored) {
        if (
          input
            .peek(n)
            .subarray(inside)
            .some((byte) => byte !== 0)
        )
          this.#refuseTail();
        if (inside > 0) {
          return this.#store(n, () => stream.spool.write(this.#at, address, inside), input);
        }
      }
      input.consume(n);
      this.#left -= n;
      this.#at = add(this.#at, n);
      return this.#moved();
    }
    const length = Number(subtract(stream.inside(this.#at, this.#left), this.#at));
    if (!isStored || !input.headersOnly || length < SPLICE_MIN) return input.receivePayload();
    const taken = stream.spool.fill(fd, length);
    if (taken === WOULD_BLOCK) return WAIT_INPUT;
    if (taken === 0) return INPUT_ENDED;
    return this.#store(taken, () => stream.spool.store(this.#at)) || CALLED;
  }

  /** Data behind the stream's end, in its last sector. */
  #refuseTail(): void {
    this.#status = NBD_ENOSPC;
    this.#stream.refuse(this.channel.request, NBD_ENOSPC);
  }

  /** Stores `n` bytes of the payload. @param input has them; undefined if they have left the socket */
  #store(n: number, store: () => void, input?: Channel["input"]): Step {
    const stream = this.#stream;
    // Even if the rest never comes.
    stream.dataEnd = max(stream.dataEnd, stream.inside(this.#at, n));
    this.#spooling(store);
    input?.consume(n);
    this.#left -= n;
    this.#at = add(this.#at, n);
    return this.#moved();
  }

  /** Uses the spool, whose failure becomes the reply. */
  #spooling(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      this.#stream.endpointFailed(error);
      this.#status = this.#failure;
    }
  }

  /** A part of the payload has moved; the last part completes the WRITE. */
  #moved(): Step {
    if (this.#left > 0) return MORE;
    const { offset, payload } = this.channel.request;
    if (this.#status === NBD_OK) this.#status = this.#failure;
    if (this.#status === NBD_OK) {
      this.#stream.changed(this, offset, this.#stream.inside(offset, payload));
    }
    this.channel.reply(this.#status);
    return MORE;
  }

  #zero(): Step {
    const { request } = this.channel;
    const stream = this.#stream;
    const { punches } = stream.spool;
    const quick = punches ? NBD_CMD_FLAG_FAST_ZERO : 0;
    const status = this.#judge(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | quick);
    if (status !== NBD_OK && this.#failure === NBD_OK && request.length > 0) {
      stream.refuse(request, status);
    }
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
    const end = add(request.offset, request.length);
    return this.#beginZeroes(end > CREATION_PROBE);
  }

  /** The current WRITE_ZEROES wants room on the disk for its zeroes. */
  get #allocates(): boolean {
    return (this.channel.request.flags & NBD_CMD_FLAG_NO_HOLE) !== 0;
  }

  #trim(): Step {
    const { request } = this.channel;
    let status = this.#judge(NBD_CMD_FLAG_FUA);
    // A client may do without a TRIM, so its refusal is no loss. It "SHOULD" be NBD_EINVAL past the end.
    if (status === NBD_ENOSPC && this.#failure === NBD_OK) status = NBD_EINVAL;
    if (status === NBD_OK && request.length > 0 && this.#stream.spool.punches) {
      return this.#beginZeroes(true);
    }
    this.channel.reply(status);
    return MORE;
  }

  /** @param moves the request counts as one that changes the disk */
  #beginZeroes(moves: boolean): Step {
    const stream = this.#stream;
    const { offset, length } = this.channel.request;
    const end = min(add(offset, length), stream.size);
    if (stream.isOvertaken(this, offset, end)) return YIELD;
    this.#status = NBD_OK;
    this.#zeroAt = offset;
    // Behind the data there is a hole already.
    this.#zeroEnd = this.#allocates ? end : min(end, stream.spool.length);
    if (moves) {
      this.streamed = true;
      stream.moved(this);
    }
    return this.#zeroAt < this.#zeroEnd ? MORE : this.#zeroed();
  }

  #zeroMore(): Step {
    const { spool } = this.#stream;
    const at = this.#zeroAt;
    const length = Number(min(subtract(this.#zeroEnd, at), HOLE_PER_STEP));
    this.#spooling(() => {
      this.#zeroAt = add(at, spool.zero(at, length, this.#allocates));
    });
    if (this.#status !== NBD_OK) this.#zeroAt = this.#zeroEnd;
    return this.#zeroAt < this.#zeroEnd ? CALLED : this.#zeroed();
  }

  #zeroed(): Step {
    const { request } = this.channel;
    const stream = this.#stream;
    if (this.#status === NBD_OK) {
      const end = min(add(request.offset, request.length), stream.size);
      if (request.type === NBD_CMD_TRIM) stream.trimmed(this, request.offset, end);
      else stream.changed(this, request.offset, end);
    }
    this.channel.reply(this.#status);
    return MORE;
  }

  #read(): Step {
    const { channel } = this;
    const { request, replies, input } = channel;
    const { offset } = request;
    const stream = this.#stream;
    const isValid = channel.isValidRead && add(offset, request.length) <= stream.advertised;
    const length = Number(request.length);
    if (isValid && length > 0 && length <= this.#body.inlineMax) {
      const room = replies.makeRoom(length);
      if (room !== MORE) return room;
    }
    input.consumeHeader();
    if (!isValid) {
      replies.refuseInvalid(request);
      return MORE;
    }
    if (stream.failure !== undefined) {
      replies.refuse(request, stream.failure.errno, "the stream is broken");
      return MORE;
    }
    try {
      this.#replyRead(offset, length);
    } catch (error) {
      if (!(error instanceof SpoolError)) throw error;
      stream.endpointFailed(error);
      replies.refuse(request, this.#failure, "the spool cannot be read");
    }
    return MORE;
  }

  #replyRead(offset: Offset, length: number): void {
    const { request, replies } = this.channel;
    const { spool } = this.#stream;
    const [data, until] = length === 0 ? [false, undefined] : spool.dataAt(offset);
    if (!data && (until === undefined || until >= add(offset, length))) {
      replies.zeroes(request);
      return;
    }
    // The start is read before the header is written, so that there can be an error instead.
    this.#body.start(offset, length);
    replies.data(request, offset, length, true);
    if (length <= this.#body.inlineMax) {
      this.#body.copyTo(replies.memory, replies.end);
      replies.added(length);
    } else {
      replies.follow(this.#body);
    }
  }
}
