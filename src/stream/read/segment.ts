/** A part of a READ's data on its way to the socket. */
import { MSG_MORE } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { send } from "../../../ffi/socket.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { type Body, ZeroBody } from "../replies.ts";
import { lengthInBlock, placeInBlock } from "./history.ts";
import type { ReadStream } from "./read-stream.ts";

/** First memory, then the pipe, then zeroes. One object of a connection, which is filled again for every part of a READ. */
export class SegmentBody implements Body {
  /** True from {@link start} until all of it is out. */
  underWay = false;
  /** True once bytes have left the pipe. */
  spliced = false;
  readonly #stream: ReadStream;
  #from: Offset = 0;
  #held = 0;
  #piped = 0;
  readonly #zeroes = new ZeroBody();
  readonly #sent: () => void;

  /** @param sent called when all of it is out, at once: the client may leave before the next step */
  constructor(stream: ReadStream, sent: () => void) {
    this.#stream = stream;
    this.#sent = sent;
  }

  /**
   * Begins; only while nothing is under way.
   *
   * @param from where in the stream it starts
   * @param held bytes that are in the history; they stay there until this is sent
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

  /** The client does not get the rest. */
  giveUp(): void {
    this.underWay = false;
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
      if (n === 0) this.#stream.robbed();
      this.spliced = true;
      this.#piped -= n;
    }
    return true;
  }
}
