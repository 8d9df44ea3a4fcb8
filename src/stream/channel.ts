/** The client's side of a connection: what comes, what goes back, and what is waited for. */
import { NBD_REQUEST_SIZE } from "../protocol/constants.ts";
import { Request } from "../protocol/request.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { Input } from "./input.ts";
import { Replies } from "./replies.ts";

/** What a connection may have to wait for. */
export type Need = "input" | "output" | "sink" | "turn";

/**
 * What the parts of a connection share. Work goes on until something has to be waited for; the
 * `needs…` fields then say what, all of it at once.
 */
export class Channel {
  /** The socket has to have something to read. */
  needsInput = false;
  /** The socket has to take more replies. */
  needsOutput = false;
  /** The sink has to take more. */
  needsSink = false;
  /** Another connection's WRITE has to be complete. */
  needsTurn = false;
  /** The client sends nothing more; it may still take replies. */
  halfClosed = false;
  /** The client is gone, and takes no replies either. */
  gone = false;
  /** Calls that move data that are left in this turn. */
  calls = 0;
  /** The last WRITE was one for splice(2), and so will be the next: headers are read alone. */
  large = false;

  readonly input: Input;
  readonly replies: Replies;
  /** The request that is being served. */
  readonly request = new Request();

  constructor(
    readonly fd: number,
    leftover: Uint8Array,
    pool: BufferPool,
  ) {
    this.input = new Input(fd, pool, leftover);
    this.replies = new Replies(fd);
  }

  /** @returns false, for the caller to pass on: there is something to wait for */
  await(need: Need): false {
    if (need === "input") this.needsInput = true;
    else if (need === "output") this.needsOutput = true;
    else if (need === "sink") this.needsSink = true;
    else this.needsTurn = true;
    return false;
  }

  /** Makes room for at least one reply. @returns false when there is something to wait for */
  makeRoom(): boolean {
    if (!this.replies.full) return true;
    this.calls--;
    return this.replies.flush() || this.await("output");
  }

  /** Answers the current request. @param payload what a READ gets: bytes, or a number of zeroes */
  reply(error: number, payload: Uint8Array | number = 0): void {
    this.replies.add(error, this.request.cookieHigh, this.request.cookieLow, payload);
  }

  /**
   * Takes more from the socket: in a payload as much as there is, between requests only a header if
   * the payload behind it is going to be spliced.
   *
   * @returns as `Input.receive`
   */
  receive(inPayload: boolean): number {
    const exact = this.large && !inPayload;
    this.calls--;
    return this.input.receive(exact ? NBD_REQUEST_SIZE - this.input.available : undefined);
  }
}
