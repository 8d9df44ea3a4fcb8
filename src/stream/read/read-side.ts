/** A connection to a stream that is read: its requests, one by one. */
import { boundAddress } from "../../../ffi/socket.ts";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EPERM,
} from "../../protocol/constants.ts";
import { clientText } from "../../messages/client-text.ts";
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Channel, Step } from "../channel.ts";
import type { Failure } from "../failure.ts";
import type { Side } from "../flow.ts";
import { SegmentBody } from "./segment.ts";
import type { ReadStream } from "./read-stream.ts";

/**
 * From this size on, data goes from the source to the socket by splice(2). Below it, one large
 * read(2) for many requests and one send(2) for their replies cost less.
 */
const SPLICE_MIN = 32 * 1024;

/**
 * TCP to this machine: the pages are copied anyway on their way, and in pieces of the size in which
 * the writer left them in its pipe. One copy more, in large pieces, is less work. (bench/, read-tcp)
 */
function isLoopback(fd: number): boolean {
  const address = boundAddress(fd);
  if (address?.kind !== "tcp") return false;
  return /^(127\.|0:0:0:0:0:0:0:1$|0:0:0:0:0:ffff:7f)/.test(address.host);
}

/** No chunk is smaller than this, unless it is all that is left of a request. */
const CHUNK_MIN = 64 * 1024;

/** The largest part of a reply that is copied behind its header. */
const INLINE_MAX = 64 * 1024;

export class ReadSide implements Side {
  streamed: boolean;
  firstMove = 0;
  lastMove = 0;
  readonly #channel: Channel;
  readonly #stream: ReadStream;
  /** Data may go by splice(2). */
  readonly #splices: boolean;
  /** A READ is under way; it is the stream's reader. */
  #active = false;
  /** It gets its data in one piece. */
  #whole = false;
  /** What is to be sent next of it, and where it ends. */
  #cursor: Offset = 0;
  #end: Offset = 0;
  /** What is on its way to the socket. */
  readonly #segment: SegmentBody;
  /** Where it began. */
  #start: Offset = 0;

  constructor(channel: Channel, stream: ReadStream) {
    this.#channel = channel;
    this.#stream = stream;
    this.#splices = !isLoopback(channel.fd);
    this.#segment = new SegmentBody(stream, () => {
      this.#pass(this.#cursor);
      if (this.#cursor === this.#end) this.#finish();
    });
    // Of a disk of no bytes, who has come has had all.
    this.streamed = stream.rule.goesOn(0);
  }

  get channel(): Channel {
    return this.#channel;
  }

  isReading(offset: Offset, length: Offset): boolean {
    return this.#active && offset < this.#end && this.#start < add(offset, length);
  }

  clientLost(): void {
    this.#stream.clientLost(this);
  }

  leave(): void {
    this.#stream.succession?.left(this);
  }

  readonly holdsInput = false;

  get hasTurn(): boolean {
    return this.#stream.isNext(this);
  }

  get busy(): boolean {
    return this.#active;
  }

  /** Nothing is read, and above all nothing passed over, for a client that is gone. */
  get hopeless(): boolean {
    return this.#active && this.#channel.gone;
  }

  settle(): boolean {
    return true;
  }

  serve(): boolean {
    const channel = this.#channel;
    const { request, input } = channel;
    if (request.type === NBD_CMD_READ) return this.#serveRead();
    input.consume(channel.headerSize);
    switch (request.type) {
      case NBD_CMD_BLOCK_STATUS:
        this.#blockStatus();
        break;
      case NBD_CMD_WRITE:
      case NBD_CMD_WRITE_ZEROES:
      case NBD_CMD_TRIM:
        channel.refuse(NBD_EPERM);
        break;
      default:
        channel.reply(NBD_EINVAL);
    }
    return true;
  }

  refused(): void {
    // It would not have moved the stream.
  }

  lose(): boolean {
    const midRequest = this.busy;
    // What has left the pipe is gone, whether the client has got it or not.
    if (this.#segment.underWay && this.#segment.spliced) this.#pass(this.#stream.intake.taken);
    this.#finish();
    return midRequest;
  }

  /** All that is ahead is data, for all that is known. */
  #blockStatus(): void {
    this.#channel.answerBlockStatus(this.#stream.rule.advertised, () => [true, undefined]);
  }

  #serveRead(): boolean {
    const channel = this.#channel;
    const stream = this.#stream;
    const { request, input, answers } = channel;
    const { offset, length } = request;
    if (stream.succession !== undefined) stream.succeed(this, offset, length);
    if (!stream.takeTurn(this)) return channel.await("turn");
    input.consume(channel.headerSize);
    const { rule } = stream;
    if (!channel.isValidRead || !rule.contains(offset, length)) {
      answers.refuseInvalid(request);
    } else if (stream.failure !== undefined) {
      this.#refuse(stream.failure);
    } else if (length === 0) {
      answers.nothing(request);
    } else if (!rule.admit(offset, length)) {
      // What a client that has come back on another connection had asked for here is not wanted.
      if (stream.succession?.isOld(this) === true) stream.succession.replace(this);
      else this.#refuse(stream.refuse(request));
    } else {
      stream.reader = this;
      this.#active = true;
      this.#start = offset;
      this.#cursor = offset;
      this.#end = add(offset, length);
      // It takes the place of one that was lost.
      if (stream.rule.goesOn(this.#end)) {
        if (stream.moved(this)) this.streamed = true;
      }
      const unfragmented = (request.flags & NBD_CMD_FLAG_DF) !== 0;
      this.#whole = unfragmented || !answers.negotiated.structured || length < SPLICE_MIN;
    }
    return true;
  }

  #refuse(failure: Failure): void {
    this.#channel.answers.refuse(this.#channel.request, failure.errno, clientText(failure));
  }

  /** Goes on with the READ under way; only while no body of it is on its way. */
  step(): Step {
    const stream = this.#stream;
    // Thrown away: the client takes nothing any more.
    if (this.#segment.underWay) return "end";
    if (stream.failure !== undefined) {
      this.#refuse(stream.failure);
      return this.#finish();
    }
    const { dataEnd } = stream;
    const goal = min(this.#cursor, dataEnd);
    if (stream.rule.head < goal) {
      const n = stream.passOver(goal);
      if (n > 0) this.#had(stream.rule.head);
      return this.#taken(n);
    }
    const rest = Number(subtract(min(this.#end, dataEnd), goal));
    const held = stream.held(this.#cursor, min(this.#end, dataEnd));
    const unsure = this.#end >= stream.rule.size && stream.mustConfirm;
    const piped = unsure ? 0 : this.#spliceable(rest - held);
    const ready = held + piped;
    if (ready < Math.min(rest, this.#whole ? rest : CHUNK_MIN)) return this.#taken(stream.takeIn());
    if (unsure && held === rest && !stream.confirmEnd()) {
      return stream.failure !== undefined || this.#channel.await("endpoint");
    }
    return this.#send(held, piped);
  }

  /** Of `missing` bytes that are not in memory, how many can go by splice(2) now. */
  #spliceable(missing: number): number {
    if (missing < SPLICE_MIN || !this.#splices || this.#stream.keeps) return 0;
    return Math.max(0, Math.min(missing, this.#stream.intake.available(missing)));
  }

  /** Something of the source has been taken, or could not be. @param n as `Intake` returns it */
  #taken(n: number): Step {
    this.#channel.calls--;
    if (n > 0) return true;
    const stream = this.#stream;
    if (n === 0 && (stream.endedEarly() || stream.failure !== undefined)) return true;
    return this.#channel.await("endpoint");
  }

  /** Sends the next part: `held` bytes from memory, `piped` from the source, and zeroes to its end. */
  #send(held: number, piped: number): Step {
    const { request, answers, replies } = this.#channel;
    const stream = this.#stream;
    const data = held + piped;
    const from = this.#cursor;
    const dataEnd = add(from, data);
    const last = dataEnd >= min(this.#end, stream.dataEnd);
    const zeroes = last ? Number(subtract(this.#end, dataEnd)) : 0;
    this.#had(add(dataEnd, zeroes));
    if (data === 0 && answers.negotiated.structured) {
      answers.hole(request, from, zeroes, true);
      this.#cursor = this.#end;
      this.#pass(this.#end);
      return this.#finish();
    }
    if (piped === 0 && zeroes === 0 && data <= INLINE_MAX) {
      if (!this.#channel.makeRoom(data)) return false;
      const done = dataEnd === this.#end;
      answers.data(request, from, data, done);
      stream.history.copy(from, dataEnd, replies.memory, replies.end);
      replies.added(data);
      this.#cursor = dataEnd;
      this.#pass(dataEnd);
      return done ? this.#finish() : true;
    }
    const length = data + zeroes;
    this.#cursor = add(from, length);
    answers.data(request, from, length, this.#cursor === this.#end);
    this.#segment.start(from, held, piped, zeroes);
    replies.follow(this.#segment);
    return true;
  }

  #pass(end: Offset): void {
    if (end > this.#stream.rule.head) this.#stream.pass(end);
  }

  /** The client has had the stream up to `end`, or had it passed over. */
  #had(end: Offset): void {
    if (this.#stream.rule.goesOn(end)) this.streamed = true;
  }

  #finish(): true {
    this.#active = false;
    this.#segment.giveUp();
    this.#stream.leave(this);
    return true;
  }
}
