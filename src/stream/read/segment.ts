/** A part of a READ's data on its way to the socket. */
import { MSG_MORE } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import type { Memory } from "../../../ffi/memory.ts";
import { send } from "../../../ffi/socket.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { type Body, ZeroBody } from "../replies.ts";
import type { ReadStream } from "./stream.ts";

/** First what is in memory, then what is in the source's pipe, then zeroes. */
export class SegmentBody implements Body {
  /** True once bytes have left the pipe. */
  spliced = false;
  readonly #stream: ReadStream;
  #from: Offset;
  #held: number;
  #piped: number;
  readonly #zeroes: ZeroBody;
  readonly #sent: () => void;

  /**
   * @param from where in the stream it starts
   * @param held bytes that are in the history; they stay there until this is sent
   * @param piped bytes behind them that are in the pipe
   * @param zeroes bytes behind those
   * @param sent called when all of it is out, at once: the client may leave before the next step
   */
  constructor(
    stream: ReadStream,
    from: Offset,
    held: number,
    piped: number,
    zeroes: number,
    sent: () => void,
  ) {
    this.#stream = stream;
    this.#from = from;
    this.#held = held;
    this.#piped = piped;
    this.#zeroes = new ZeroBody(zeroes);
    this.#sent = sent;
  }

  send(fd: number): boolean {
    if (!this.#sendHeld(fd) || !this.#sendPiped(fd) || !this.#zeroes.send(fd)) return false;
    this.#sent();
    return true;
  }

  #sendHeld(fd: number): boolean {
    let taken = true;
    if (this.#held > 0) {
      this.#stream.history.each(
        this.#from,
        add(this.#from, this.#held),
        (memory, place, length) => {
          if (taken) taken = this.#sendPiece(fd, memory, place, length);
        },
      );
    }
    return taken;
  }

  #sendPiece(fd: number, memory: Memory, place: number, length: number): boolean {
    for (let sent = 0; sent < length;) {
      const flags = this.#held > length - sent || this.#piped > 0 ? MSG_MORE : 0;
      const n = send(fd, memory.at(place + sent), length - sent, flags);
      if (n === WOULD_BLOCK) return false;
      sent += n;
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
