/** One client in the transmission phase (doc/proto.md, "Transmission"). */
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
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
  NBD_OK,
  NBD_REQUEST_SIZE,
} from "../protocol/constants.ts";
import { BLOCK_SIZE } from "../protocol/export.ts";
import { add } from "../protocol/offset.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { Channel } from "./channel.ts";
import type { ConnectionEnd } from "./messages.ts";
import type { Stream } from "./stream.ts";
import { WriteSide } from "./write-side.ts";

/** Calls for one connection that move data, before the others, and signals, get their turn. */
const CALLS_PER_TURN = 64;

/**
 * qemu-img without `-n` first "creates" the disk on a connection of its own, where it zeroes one
 * sector. Zeroes that end here do not make a client one that sent data.
 */
const CREATION_PROBE = 512;

/** A connection's state machine: {@link advance} goes as far as it can without waiting. */
export class Connection {
  /** Set when the connection is over; {@link close} is still to be called. */
  ended: ConnectionEnd | undefined;
  /** When the connection began to wait for its client, by the engine's clock. */
  idleSince = 0;
  readonly channel: Channel;
  readonly #stream: Stream;
  readonly #writes: WriteSide;
  /** Set when nothing is left to do but to send the last replies. */
  #ending: ConnectionEnd | undefined;
  #zeroed = false;

  /** @param leftover what the client sent while it negotiated */
  constructor(
    readonly id: number,
    fd: number,
    leftover: Uint8Array,
    stream: Stream,
    pool: BufferPool,
  ) {
    this.#stream = stream;
    this.channel = new Channel(fd, leftover, pool);
    this.#writes = new WriteSide(this.channel, stream);
  }

  /** True when the client sent data, not just questions. */
  get wrote(): boolean {
    return this.#writes.wrote || this.#zeroed;
  }

  /** True when {@link advance} has something to do. */
  get runnable(): boolean {
    const { channel } = this;
    if (channel.needsTurn && this.#stream.writer === undefined) channel.needsTurn = false;
    if (channel.needsSink && this.#stream.emitter.ready) channel.needsSink = false;
    const { needsInput, needsOutput, needsSink, needsTurn } = channel;
    return !(needsInput || needsOutput || needsSink || needsTurn);
  }

  /** Goes on until something has to be waited for, or others should have their turn. */
  advance(): void {
    const { channel } = this;
    try {
      channel.calls = CALLS_PER_TURN;
      while (channel.calls > 0 && this.#step());
      channel.replies.flush();
    } catch (error) {
      if (error instanceof SinkError) this.#stream.sinkFailed(error);
      else if (error instanceof SyscallError) this.#lose();
      else throw error;
    }
    // In the middle of a payload its bytes are wanted where they are.
    if (!this.#writes.isWriter && !this.#writes.inPayload) channel.input.release();
  }

  /** poll(2) says that the client has closed its side. @param both true when it cannot read either */
  hangUp(both: boolean): void {
    this.channel.halfClosed = true;
    this.channel.gone ||= both;
    if (this.#writes.hopeless) this.#lose();
  }

  /** Ends the connection from this side. */
  end(how: ConnectionEnd): void {
    this.#lose();
    this.ended = how;
  }

  close(): void {
    close(this.channel.fd);
  }

  /** One step; false when there is something to wait for. */
  #step(): boolean {
    if (this.ended !== undefined || !this.channel.makeRoom()) return false;
    if (this.#writes.busy) {
      const step = this.#writes.step();
      if (step !== "end") return step;
      this.#writes.lose();
      this.#ending = "cut";
      return true;
    }
    if (this.#ending !== undefined) return this.#finish(this.#ending);
    if (this.channel.input.available >= NBD_REQUEST_SIZE) return this.#serve();
    return this.#writes.settle() && this.#receive();
  }

  #finish(how: ConnectionEnd): boolean {
    if (!this.channel.replies.flush()) return this.channel.await("output");
    this.ended = how;
    return false;
  }

  /** The connection is gone, both ways. */
  #lose(): void {
    const midRequest = this.#writes.lose();
    this.ended ??= midRequest ? "cut" : "dropped";
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
    const { request, input, halfClosed } = this.channel;
    if (!request.decode(input.view, input.position)) {
      if (!this.#writes.settle()) return false;
      this.#ending = "garbage";
      return true;
    }
    if (request.type === NBD_CMD_WRITE) {
      const served = this.#writes.serve();
      if (halfClosed && this.#writes.hopeless) this.#lose();
      return served;
    }
    // All other commands are answered in order: after the WRITEs before them.
    if (!this.#writes.settle()) return false;
    input.consume(NBD_REQUEST_SIZE);
    switch (request.type) {
      case NBD_CMD_READ:
        this.#serveRead();
        break;
      case NBD_CMD_WRITE_ZEROES:
        this.channel.reply(this.#zero());
        break;
      case NBD_CMD_FLUSH:
        this.channel.reply(this.#allows(NBD_CMD_FLAG_FUA) ? this.#state() : NBD_EINVAL);
        break;
      case NBD_CMD_DISC:
        this.#ending = "disconnected";
        break;
      default:
        this.channel.reply(NBD_EINVAL);
    }
    return true;
  }

  /** True when the request has no flags but these. */
  #allows(flags: number): boolean {
    return (this.channel.request.flags & ~flags) === 0;
  }

  /** NBD_OK, or why nothing can be written any more. */
  #state(): number {
    return this.#stream.failure?.errno ?? NBD_OK;
  }

  #serveRead(): void {
    const { request } = this.channel;
    const { offset, length } = request;
    const { rule } = this.#stream;
    let error = NBD_EINVAL;
    if (this.#allows(NBD_CMD_FLAG_FUA) && length <= BLOCK_SIZE.maximum) {
      error = rule.read(offset, length);
    }
    if (error === NBD_EIO) this.#stream.readBack(request);
    if (error !== NBD_OK) this.channel.reply(error);
    else this.channel.reply(NBD_OK, rule.window?.read(offset, length) ?? length);
  }

  /** Takes a WRITE_ZEROES. @returns the answer to it */
  #zero(): number {
    const { request } = this.channel;
    const { offset, length } = request;
    if (this.#stream.failure !== undefined) return this.#stream.failure.errno;
    const valid = this.#allows(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE);
    if (length === 0) return valid ? NBD_OK : NBD_EINVAL;
    const error = valid ? this.#stream.rule.zero(offset, length) : NBD_EINVAL;
    if (error !== NBD_OK) this.#stream.refuse(request, error);
    else this.#stream.resumed();
    if (error === NBD_OK && add(offset, length) > CREATION_PROBE) this.#zeroed = true;
    return error;
  }
}
