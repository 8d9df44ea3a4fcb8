/**
 * Which connections are of clients that have come back (`--reconnect`).
 *
 * A client and its server learn of a loss at different times, and the server may never learn of it:
 * a dead link sends no FIN. So what counts is not whether a connection is known to be lost, but what
 * connections do. One that began later and moves the stream makes those before it stale: they do not
 * count any more, unless they move the stream again themselves. One that repeats what an older one
 * has sent is of the same client, which has come back: the older one is ended.
 */
import { shutdown } from "../../ffi/socket.ts";
import type { Channel } from "./channel.ts";
import type { StreamEvent } from "./messages.ts";

/** The handler of a connection that may move the stream. */
export interface Mover {
  readonly channel: Channel;
  /** Which of all moves of the stream were its first and its last so far; 0 is none. */
  firstMove: number;
  lastMove: number;
  /** Drops what is under way. */
  abort(): boolean;
}

export class ReconnectTracker {
  readonly #post: (event: StreamEvent) => void;
  /** Those that have moved the stream and are connected. */
  readonly #movers = new Set<Mover>();
  /** The highest number of a connection that has moved the stream; 0 is none. */
  #newest = 0;
  #moves = 0;
  /** Of each client that was lost and has not come back, its last move. */
  readonly #lost: number[] = [];
  /** The connections of clients that have come back. */
  readonly #returned = new WeakSet<Mover>();

  constructor(post: (event: StreamEvent) => void) {
    this.#post = post;
  }

  /** True when a connection that began later than this one has moved the stream. */
  isOld({ channel }: Mover): boolean {
    return channel.id < this.#newest;
  }

  /** A client is lost that had moved the stream, and was not stale. */
  lost({ lastMove }: Mover): void {
    this.#lost.push(lastMove);
  }

  /**
   * A connection moves the stream. If its first move came after the last one of a client that was lost,
   * it is that client, come back; a connection that moved the stream before that is another client's.
   * The stream is "resumed" when all that were lost are back.
   *
   * @returns true when this was the last one of them
   */
  moved(mover: Mover): boolean {
    mover.lastMove = ++this.#moves;
    mover.firstMove ||= mover.lastMove;
    if (mover.channel.id > this.#newest) {
      this.#newest = mover.channel.id;
      for (const other of this.#movers) other.channel.stale = true;
    } else {
      mover.channel.stale = false;
    }
    this.#movers.add(mover);
    return this.#lost.length > 0 && this.#isLastToReturn(mover);
  }

  #isLastToReturn(mover: Mover): boolean {
    const place = this.#lost.findIndex((last) => mover.firstMove > last);
    if (place < 0 || this.#returned.has(mover)) return false;
    this.#returned.add(mover);
    this.#lost.splice(place, 1);
    if (this.#lost.length > 0) return false;
    this.#post({ type: "resumed" });
    return true;
  }

  /** A connection repeats what older ones have sent. */
  replaceOlder(mover: Mover): void {
    for (const other of [...this.#movers]) {
      if (other.channel.id < mover.channel.id) this.replace(other);
    }
  }

  /** Ends a connection whose client has come back on another one. */
  replace(mover: Mover): void {
    mover.channel.stale = true;
    mover.abort();
    mover.channel.replaced = true;
    // The loop hears of it, wherever the connection waits, and so does the client.
    shutdown(mover.channel.fd);
  }

  closed(mover: Mover): void {
    this.#movers.delete(mover);
  }
}
