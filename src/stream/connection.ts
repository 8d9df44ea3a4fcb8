/** One client in the transmission phase (doc/proto.md, "Transmission"). */
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP } from "../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
import { EndpointError } from "../endpoint/error.ts";
import { NBD_CMD_DISC, NBD_CMD_WRITE, NBD_EINVAL } from "../protocol/constants.ts";
import type { Channel } from "./channel.ts";
import type { ConnectionEnd } from "./messages.ts";
import {
  CALLED,
  INPUT_ENDED,
  MORE,
  type Step,
  WAIT_ENDPOINT,
  WAIT_INPUT,
  WAIT_OUTPUT,
  WAIT_TURN,
  YIELD,
} from "./step.ts";
import type { RequestHandler, Stream } from "./stream.ts";
import { keepFromFtl } from "./no-ftl.ts";

/** The most system calls for one connection before the other connections, and signals, get their turn. */
const CALLS_PER_TURN = 64;

/** The events of a client's socket other than POLLIN and POLLOUT. */
const HANGUP = POLLRDHUP | POLLHUP | POLLERR;

const WAITS = WAIT_INPUT | WAIT_OUTPUT | WAIT_ENDPOINT | WAIT_TURN;

/** A connection's state machine: {@link advance} goes as far as it can without waiting. */
export class Connection {
  /** When the connection began to wait for its client, by performance.now(). */
  idleSince = performance.now();
  /** When the connection began, by the same clock. */
  readonly since = performance.now();
  readonly #stream: Stream;
  readonly #handler: RequestHandler;
  /** The `WAIT_` bits of the last step, without those that poll(2) has reported since. */
  #waits = 0;
  /** Set when only the last replies are left to be sent. */
  #ending: ConnectionEnd | undefined;
  #ended: ConnectionEnd | undefined;

  constructor(
    readonly channel: Channel,
    stream: Stream,
  ) {
    keepFromFtl(
      Connection,
      this.#guarded,
      this.#run,
      this.#step,
      this.#inRequest,
      this.#receive,
      this.#serve,
    );
    this.#stream = stream;
    this.#handler = stream.createHandler(channel);
  }

  /** Set when the connection is over; {@link close} is still to be called. */
  get ended(): ConnectionEnd | undefined {
    return this.channel.replaced ? "replaced" : this.#ended;
  }

  /** True when the client moved the stream, and no later one has taken its place. */
  get streamed(): boolean {
    return this.#handler.streamed && !this.channel.stale;
  }

  /** True when its client has come back on a later connection, and is silent on this one. */
  get isRepeated(): boolean {
    return this.channel.stale && this.#handler.isRepeated;
  }

  /** True when a request, or the reply to one, is under way. */
  get midRequest(): boolean {
    const { input, replies, unwanted } = this.channel;
    return this.#handler.busy || unwanted > 0 || input.available > 0 || !replies.empty;
  }

  /** True when there is nothing to do before the client's next request. */
  get isWaitingForRequest(): boolean {
    if (this.#waits !== WAIT_INPUT || this.midRequest) return false;
    return this.ended === undefined && this.#ending === undefined;
  }

  get waitsForEndpoint(): boolean {
    return (this.#waits & WAIT_ENDPOINT) !== 0;
  }

  get waitsForTurn(): boolean {
    return (this.#waits & WAIT_TURN) !== 0;
  }

  /** True when the client has to send or take something. */
  get waitsForClient(): boolean {
    return (this.#waits & (WAIT_INPUT | WAIT_OUTPUT)) !== 0 && !this.waitsForEndpoint;
  }

  /** True when {@link advance} has something to do. */
  get runnable(): boolean {
    if (this.waitsForTurn && this.#handler.hasTurn) this.#waits &= ~WAIT_TURN;
    if (this.waitsForEndpoint && this.#stream.ready) this.#waits &= ~WAIT_ENDPOINT;
    return this.#waits === 0;
  }

  /** The events to poll the client's socket for. */
  get events(): number {
    const { replies, halfClosed } = this.channel;
    const input = (this.#waits & WAIT_INPUT) === 0 ? 0 : POLLIN;
    const events = input | (replies.empty ? 0 : POLLOUT);
    return events === 0 && !halfClosed ? POLLRDHUP : events;
  }

  /** Takes the `revents` of the client's socket. */
  reported(revents: number): void {
    if ((revents & HANGUP) !== 0) this.#hangUp((revents & (POLLHUP | POLLERR)) !== 0);
    // After a hang-up, recv(2) and send(2) do not block: they return what is left, or the error.
    if ((revents & (POLLIN | HANGUP)) !== 0) this.#waits &= ~WAIT_INPUT;
    if ((revents & (POLLOUT | HANGUP)) !== 0) {
      this.#waits &= ~WAIT_OUTPUT;
      this.#guarded(() => this.channel.replies.flush());
    }
  }

  /** The client has closed its side. @param both it takes no replies either */
  #hangUp(both: boolean): void {
    this.channel.halfClosed = true;
    this.channel.gone ||= both;
    if (this.#handler.cannotComplete) this.#abort();
  }

  /** Goes on until it has to wait, or other connections have their turn. */
  advance(): void {
    const { input, replies } = this.channel;
    this.#waits = 0;
    this.#guarded(() => {
      this.#waits = this.#run() & WAITS;
      // After WOULD_BLOCK, the next attempt is after poll(2).
      if ((this.#waits & WAIT_OUTPUT) === 0) replies.flush();
    });
    if (!this.#handler.holdsInput) input.release();
    // A slow disk or a busy machine may have taken long for this: that is not the client's silence.
    this.idleSince = performance.now();
  }

  #run(): Step {
    for (let calls = 0; calls < CALLS_PER_TURN;) {
      const step = this.#step();
      if (step === CALLED) calls++;
      else if (step !== MORE) return step;
    }
    return YIELD;
  }

  #step(): Step {
    if (this.ended !== undefined) return YIELD;
    const { channel } = this;
    const room = channel.replies.makeRoom();
    if (room !== MORE) return room;
    if (this.#handler.busy) return this.#inRequest(this.#handler.step());
    if (this.#ending !== undefined) return this.#finish(this.#ending);
    if (channel.unwanted > 0) return this.#inRequest(channel.discardUnwanted());
    if (channel.input.hasHeader) return this.#serve();
    return this.#handler.flush() || this.#receive();
  }

  /** Handles the result of a step in the middle of a request. */
  #inRequest(step: Step): Step {
    if (step !== INPUT_ENDED) return step;
    this.#handler.abort();
    this.#ending = "cut";
    return MORE;
  }

  #finish(how: ConnectionEnd): Step {
    if (!this.channel.replies.flush()) return WAIT_OUTPUT;
    this.#ended = how;
    return YIELD;
  }

  #receive(): Step {
    const { input } = this.channel;
    const n = input.receiveRequests();
    if (n === WOULD_BLOCK) return WAIT_INPUT;
    if (n === 0) this.#ending = input.available > 0 ? "cut" : "dropped";
    return CALLED;
  }

  #serve(): Step {
    const { request, input, halfClosed } = this.channel;
    if (!request.decode(input.view, input.position)) return this.#endWith("garbage");
    if (request.type === NBD_CMD_DISC) return this.#endWith("disconnected");
    if (request.payload > 0 && request.type !== NBD_CMD_WRITE) return this.#refusePayload();
    const step = this.#handler.serve();
    if (halfClosed && this.#handler.cannotComplete) this.#abort();
    return step;
  }

  /** Ends the connection after the replies to the requests before. */
  #endWith(how: ConnectionEnd): Step {
    const step = this.#handler.flush();
    if (step !== MORE) return step;
    this.channel.input.consumeHeader();
    this.#ending = how;
    return MORE;
  }

  /**
   * No command but WRITE takes a payload from a client: NBD_FLAG_BLOCK_STAT_PAYLOAD is not advertised,
   * since there is one metadata context and nothing to choose from. "A server SHOULD gracefully
   * consume" it even so, and then answer NBD_EINVAL.
   */
  #refusePayload(): Step {
    const step = this.#handler.flush();
    if (step !== MORE) return step;
    this.channel.input.consumeHeader();
    this.#handler.refused(NBD_EINVAL);
    this.channel.refuse(NBD_EINVAL);
    return MORE;
  }

  /** Handles failures of the client and of the endpoint. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof EndpointError) {
        this.#stream.endpointFailed(error);
        // A reply's header is out and its payload does not come: only the end of the connection shows that.
        if (this.channel.replies.inBody) this.#abort();
      } else if (error instanceof SyscallError) {
        this.#abort();
      } else {
        throw error;
      }
    }
  }

  /** The connection is lost in both directions. */
  #abort(): void {
    const midRequest = this.#handler.abort() || this.channel.unwanted > 0;
    this.#ended ??= midRequest ? "cut" : "dropped";
  }

  end(how: ConnectionEnd): void {
    this.#abort();
    this.#ended = how;
  }

  clientLost(): void {
    this.#handler.clientLost();
  }

  close(): void {
    this.#handler.closed();
    this.channel.replies.close();
    close(this.channel.fd);
  }
}
