/** One client in the transmission phase (doc/proto.md, "Transmission"). */
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
import { EndpointError } from "../endpoint/error.ts";
import { NBD_CMD_DISC, NBD_CMD_WRITE, NBD_EINVAL } from "../protocol/constants.ts";
import type { Channel, Step } from "./channel.ts";
import type { Flow, Side } from "./flow.ts";
import type { ConnectionEnd } from "./messages.ts";

/** Calls for one connection that move data, before the others, and signals, get their turn. */
const CALLS_PER_TURN = 64;

/** A connection's state machine: {@link advance} goes as far as it can without waiting. */
export class Connection {
  #ended: ConnectionEnd | undefined;
  /** When the connection began to wait for its client, by the engine's clock. */
  idleSince = performance.now();
  /** When it came, by the same clock. */
  readonly since = performance.now();
  readonly #flow: Flow;
  readonly #side: Side;
  /** Set when nothing is left to do but to send the last replies. */
  #ending: ConnectionEnd | undefined;

  constructor(
    readonly channel: Channel,
    flow: Flow,
  ) {
    this.#flow = flow;
    this.#side = flow.takePart(channel);
  }

  /** Set when the connection is over; {@link close} is still to be called. */
  get ended(): ConnectionEnd | undefined {
    return this.channel.replaced ? "replaced" : this.#ended;
  }

  /** True when the client moved the stream, and no later one has taken its place. */
  get counts(): boolean {
    return this.#side.streamed && !this.channel.superseded;
  }

  /** True when a request, or the answer to one, is under way. */
  get midRequest(): boolean {
    const { input, replies, unwanted } = this.channel;
    return this.#side.busy || unwanted > 0 || input.available > 0 || !replies.empty;
  }

  /** True when there is nothing to do before the client's next request. */
  get isWaitingForRequest(): boolean {
    const { needsInput, needsOutput, needsEndpoint, needsTurn } = this.channel;
    const waits = needsInput && !needsOutput && !needsEndpoint && !needsTurn;
    return waits && !this.midRequest && this.ended === undefined && this.#ending === undefined;
  }

  /** True when {@link advance} has something to do. */
  get runnable(): boolean {
    const { channel } = this;
    if (channel.needsTurn && this.#side.hasTurn) channel.needsTurn = false;
    if (channel.needsEndpoint && this.#flow.ready) channel.needsEndpoint = false;
    const { needsInput, needsOutput, needsEndpoint, needsTurn } = channel;
    return !(needsInput || needsOutput || needsEndpoint || needsTurn);
  }

  /** Goes on until something has to be waited for, or others should have their turn. */
  advance(): void {
    const { channel } = this;
    this.#guarded(() => {
      channel.calls = CALLS_PER_TURN;
      while (channel.calls > 0 && this.#step());
      // What has just been refused is not tried again before poll(2) says that it may go.
      if (!channel.needsOutput) channel.replies.flush();
    });
    if (!this.#side.holdsInput) channel.input.release();
  }

  /** poll(2) says that the client takes more. */
  flush(): void {
    this.#guarded(() => this.channel.replies.flush());
  }

  /** Runs what may find that the client, or the endpoint, has failed. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof EndpointError) {
        this.#flow.failed(error);
        // Bytes that were announced do not come any more: the client has to be told by the end.
        if (this.channel.replies.inBody) this.#lose();
      } else if (error instanceof SyscallError) {
        this.#lose();
      } else {
        throw error;
      }
    }
  }

  /** poll(2) says that the client has closed its side. @param both true when it cannot read either */
  hangUp(both: boolean): void {
    this.channel.halfClosed = true;
    this.channel.gone ||= both;
    if (this.#side.hopeless) this.#lose();
  }

  /** Ends the connection from this side. */
  end(how: ConnectionEnd): void {
    this.#lose();
    this.#ended = how;
  }

  /** The client is lost, and no other one has taken its place. */
  clientLost(): void {
    this.#side.clientLost();
  }

  close(): void {
    this.#side.leave();
    close(this.channel.fd);
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    if (this.ended !== undefined || !this.channel.makeRoom()) return false;
    if (this.#side.busy) return this.#goOn(this.#side.step());
    if (this.#ending !== undefined) return this.#finish(this.#ending);
    if (this.channel.unwanted > 0) return this.#goOn(this.channel.throwAway());
    if (this.channel.input.available >= this.channel.headerSize) return this.#serve();
    return this.#side.settle() && this.#receive();
  }

  /** Goes on after a step in the middle of a request. */
  #goOn(step: Step): boolean {
    if (step !== "end") return step;
    this.#side.lose();
    this.#ending = "cut";
    return true;
  }

  #finish(how: ConnectionEnd): boolean {
    if (!this.channel.replies.flush()) return this.channel.await("output");
    this.#ended = how;
    return false;
  }

  /** The connection is gone, both ways. */
  #lose(): void {
    const midRequest = this.#side.lose() || this.channel.unwanted > 0;
    this.#ended ??= midRequest ? "cut" : "dropped";
  }

  /** Takes the next requests from the socket. */
  #receive(): boolean {
    const n = this.channel.receive(false);
    if (n === WOULD_BLOCK) return this.channel.await("input");
    if (n === 0) this.#ending = this.channel.input.available > 0 ? "cut" : "dropped";
    return true;
  }

  /** Answers the next request, or begins to. */
  #serve(): boolean {
    const { request, input, headerSize, halfClosed } = this.channel;
    if (!request.decode(input.view, input.position)) {
      if (!this.#side.settle()) return false;
      this.#ending = "garbage";
      return true;
    }
    if (request.type === NBD_CMD_DISC) {
      if (!this.#side.settle()) return false;
      input.consume(headerSize);
      this.#ending = "disconnected";
      return true;
    }
    if (request.payload > 0 && request.type !== NBD_CMD_WRITE) return this.#refusePayload();
    const served = this.#side.serve();
    if (halfClosed && this.#side.hopeless) this.#lose();
    return served;
  }

  /**
   * No command but WRITE takes a payload from a client: NBD_FLAG_BLOCK_STAT_PAYLOAD is not advertised,
   * since there is one metadata context and nothing to choose from. "A server SHOULD gracefully
   * consume" it even so, and then answer NBD_EINVAL.
   */
  #refusePayload(): boolean {
    if (!this.#side.settle()) return false;
    this.channel.input.consume(this.channel.headerSize);
    this.#side.refused(NBD_EINVAL);
    this.channel.refuse(NBD_EINVAL);
    return true;
  }
}
