/** The request handler of a stream that is read: READ, from its header to its last byte. */
import { MSG_MORE } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { boundAddress, send } from "../../../ffi/socket.ts";
import { clientText } from "../../messages/client-text.ts";
import type { Failure } from "../../messages/notice.ts";
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
import { add, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import { keepFromFtl } from "../no-ftl.ts";
import { type Body, INLINE_MAX, ZeroBody } from "../replies.ts";
import { CALLED, INPUT_ENDED, MORE, type Step, WAIT_ENDPOINT, WAIT_TURN } from "../step.ts";
import { SPLICE_MIN } from "../input.ts";
import type { RequestHandler } from "../stream.ts";
import { lengthInBlock, placeInBlock } from "./intake.ts";
import type { Reader, ReadState } from "./read-state.ts";

/**
 * True for TCP to this machine: the kernel copies the pages anyway, in pieces of the size that the writer has
 * put into its pipe. One copy more, in large pieces, is less work. (bench/, read-tcp)
 */
function isLoopback(fd: number): boolean {
  const address = boundAddress(fd);
  if (address?.kind !== "tcp") return false;
  return /^(127\.|0:0:0:0:0:0:0:1$|0:0:0:0:0:ffff:7f)/.test(address.host);
}

/** The smallest chunk, unless less is left of a request. */
const CHUNK_MIN = 64 * 1024;

export class ReadHandler implements RequestHandler, Reader {
  streamed: boolean;
  readonly holdsInput = false;
  readonly #stream: ReadState;
  /** Data may go by splice(2). */
  readonly #splices: boolean;
  /** A READ is under way, and this is the stream's reader. */
  #active = false;
  /** Its data goes in one piece. */
  #whole = false;
  /** The position of its data that is sent next, and its end. */
  #cursor: Offset = 0;
  #end: Offset = 0;
  /** The part that is on its way to the socket. */
  readonly #segment: SegmentBody;
  /** The start of the READ. */
  #start: Offset = 0;

  constructor(
    readonly channel: Channel,
    stream: ReadState,
  ) {
    keepFromFtl(ReadHandler, this.#read, this.#spliceable, this.#send, this.#finish);
    this.#stream = stream;
    this.#splices = !isLoopback(channel.fd);
    this.#segment = new SegmentBody(stream, () => {
      stream.moveHead(this.#cursor);
      if (this.#cursor === this.#end) this.#finish();
    });
    // Every client that connects has read a disk of no bytes.
    this.streamed = stream.rule.movesStream(0);
    if (this.streamed) stream.reconnects?.moved(this);
  }

  isReading(offset: Offset, length: Offset): boolean {
    return this.#active && offset < this.#end && this.#start < add(offset, length);
  }

  clientLost(): void {
    this.#stream.reconnects?.lost(this);
  }

  closed(): void {
    this.#stream.reconnects?.closed(this);
  }

  get isRepeated(): boolean {
    return false;
  }

  get hasTurn(): boolean {
    return this.#stream.isNext(this);
  }

  get busy(): boolean {
    return this.#active;
  }

  /** The source is not read, and above all not skipped, for a client that is gone. */
  get cannotComplete(): boolean {
    return this.#active && this.channel.gone;
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
      case NBD_CMD_BLOCK_STATUS:
        // Everything counts as data, because the source is not known in advance.
        channel.replyBlockStatus(this.#stream.rule.advertised, 0, () => [true, undefined]);
        break;
      case NBD_CMD_WRITE:
      case NBD_CMD_WRITE_ZEROES:
      case NBD_CMD_TRIM:
        channel.refuse(NBD_EPERM);
        break;
      default:
        channel.reply(NBD_EINVAL);
    }
    return MORE;
  }

  refused(): void {
    // A refused request of another kind does not move the stream.
  }

  abort(): boolean {
    const midRequest = this.busy;
    // Bytes that have left the pipe are lost, even if the client has not got them.
    if (this.#segment.underWay && this.#segment.spliced) {
      this.#stream.moveHead(this.#stream.intake.taken);
    }
    this.#finish();
    return midRequest;
  }

  #read(): Step {
    const { channel } = this;
    const stream = this.#stream;
    const { request, input, replies } = channel;
    const { offset, length } = request;
    stream.replaceReader(this, offset, length);
    if (!stream.takeTurn(this)) return WAIT_TURN;
    input.consumeHeader();
    const { rule, reconnects } = stream;
    if (!channel.isValidRead || !rule.contains(offset, length)) {
      replies.refuseInvalid(request);
    } else if (stream.failure !== undefined) {
      this.#refuse(stream.failure);
    } else if (length === 0) {
      replies.nothing(request);
    } else if (!rule.admit(offset, length)) {
      // The client may have come back on another connection, and needs no reply here.
      if (reconnects?.isOld(this) === true) reconnects.replace(this);
      else this.#refuse(stream.refuse(request));
    } else {
      stream.reader = this;
      this.#active = true;
      this.#start = offset;
      this.#cursor = offset;
      this.#end = add(offset, length);
      // A client that has come back counts before it has got anything.
      if (rule.movesStream(this.#end) && reconnects?.moved(this) === true) this.streamed = true;
      const unfragmented = (request.flags & NBD_CMD_FLAG_DF) !== 0;
      this.#whole = unfragmented || !replies.negotiated.structured || length < SPLICE_MIN;
    }
    return MORE;
  }

  #refuse(failure: Failure): void {
    this.channel.replies.refuse(this.channel.request, failure.errno, clientText(failure));
  }

  /** Goes on with the READ; only while no body of it is on its way. */
  step(): Step {
    const stream = this.#stream;
    // The body was dropped, because the client takes nothing any more.
    if (this.#segment.underWay) return INPUT_ENDED;
    if (stream.failure !== undefined) {
      this.#refuse(stream.failure);
      return this.#finish();
    }
    const { dataEnd } = stream;
    const goal = min(this.#cursor, dataEnd);
    if (stream.rule.head < goal) {
      const n = stream.skip(goal);
      if (n > 0) this.#given(stream.rule.head);
      return this.#taken(n);
    }
    const rest = Number(subtract(min(this.#end, dataEnd), goal));
    const held = stream.held(this.#cursor, min(this.#end, dataEnd));
    const unsure = this.#end >= stream.rule.size && stream.mustConfirm;
    const piped = unsure ? 0 : this.#spliceable(rest - held);
    const ready = held + piped;
    if (ready < Math.min(rest, this.#whole ? rest : CHUNK_MIN)) return this.#taken(stream.takeIn());
    if (unsure && held === rest && !stream.confirmEnd()) {
      return stream.failure === undefined ? WAIT_ENDPOINT : MORE;
    }
    return this.#send(held, piped);
  }

  /** The number of `missing` bytes, which are not in memory, that can go by splice(2) now. */
  #spliceable(missing: number): number {
    if (missing < SPLICE_MIN || !this.#splices || this.#stream.usesMemory) return 0;
    return Math.max(0, Math.min(missing, this.#stream.intake.available(missing)));
  }

  /** The step after an attempt to take bytes of the source. @param n the result of `Intake` */
  #taken(n: number): Step {
    if (n > 0) return CALLED;
    const stream = this.#stream;
    if (n === 0 && (stream.endedEarly() || stream.failure !== undefined)) return CALLED;
    return WAIT_ENDPOINT;
  }

  /** Sends the next part: `held` bytes from memory, `piped` from the source, and zeroes to its end. */
  #send(held: number, piped: number): Step {
    const { request, replies } = this.channel;
    const stream = this.#stream;
    const data = held + piped;
    const from = this.#cursor;
    const dataEnd = add(from, data);
    const last = dataEnd >= min(this.#end, stream.dataEnd);
    const zeroes = last ? Number(subtract(this.#end, dataEnd)) : 0;
    this.#given(add(dataEnd, zeroes));
    if (data === 0 && replies.negotiated.structured) {
      replies.hole(request, from, zeroes, true);
      this.#cursor = this.#end;
      stream.moveHead(this.#end);
      return this.#finish();
    }
    if (piped === 0 && zeroes === 0 && data <= INLINE_MAX) {
      const room = replies.makeRoom(data);
      if (room !== MORE) return room;
      const done = dataEnd === this.#end;
      replies.data(request, from, data, done);
      stream.history.copy(from, dataEnd, replies.memory, replies.end);
      replies.added(data);
      this.#cursor = dataEnd;
      stream.moveHead(dataEnd);
      return done ? this.#finish() : MORE;
    }
    const length = data + zeroes;
    this.#cursor = add(from, length);
    replies.data(request, from, length, this.#cursor === this.#end);
    this.#segment.start(from, held, piped, zeroes);
    replies.follow(this.#segment);
    return MORE;
  }

  /** The client gets the stream up to `end`, or skips it. */
  #given(end: Offset): void {
    if (this.#stream.rule.movesStream(end)) this.streamed = true;
  }

  #finish(): Step {
    this.#active = false;
    this.#segment.underWay = false;
    this.#stream.endTurn(this);
    return MORE;
  }
}

/**
 * A part of a READ's data on its way to the socket: first from memory, then from the pipe, then zeroes. One
 * object of a connection, which is reused for every part.
 */
class SegmentBody implements Body {
  /** True from {@link start} until all of it is sent, or the READ is over. */
  underWay = false;
  /** True once bytes have left the pipe. */
  spliced = false;
  readonly #stream: ReadState;
  #from: Offset = 0;
  #held = 0;
  #piped = 0;
  readonly #zeroes = new ZeroBody();
  readonly #sent: () => void;

  /** @param sent called as soon as all of it is sent: the client may leave before the next step */
  constructor(stream: ReadState, sent: () => void) {
    keepFromFtl(SegmentBody, this.#sendHeld, this.#sendPiped);
    this.#stream = stream;
    this.#sent = sent;
  }

  /**
   * Begins; only while nothing is under way.
   *
   * @param from its position in the stream
   * @param held bytes that are in the history, and stay there until they are sent
   * @param piped bytes behind them that are in the pipe
   * @param zeroes bytes behind those
   */
  start(from: Offset, held: number, piped: number, zeroes: number): void {
    this.underWay = true;
    this.spliced = false;
    this.#from = from;
    this.#held = held;
    this.#piped = piped;
    this.#zeroes.start(zeroes);
  }

  send(fd: number): boolean {
    if (!this.#sendHeld(fd) || !this.#sendPiped(fd) || !this.#zeroes.send(fd)) return false;
    this.underWay = false;
    this.#sent();
    return true;
  }

  #sendHeld(fd: number): boolean {
    while (this.#held > 0) {
      const memory = this.#stream.history.memoryAt(this.#from);
      const length = lengthInBlock(this.#from, add(this.#from, this.#held));
      const flags = this.#held > length || this.#piped > 0 ? MSG_MORE : 0;
      const n = send(fd, memory.at(placeInBlock(this.#from)), length, flags);
      if (n === WOULD_BLOCK) return false;
      this.#from = add(this.#from, n);
      this.#held -= n;
    }
    return true;
  }

  #sendPiped(fd: number): boolean {
    while (this.#piped > 0) {
      const n = this.#stream.intake.intoSocket(fd, this.#piped);
      if (n === WOULD_BLOCK) return false;
      if (n === 0) this.#stream.otherReader();
      this.spliced = true;
      this.#piped -= n;
    }
    return true;
  }
}
