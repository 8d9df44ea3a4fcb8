/**
 * Recognizes connections of clients that have come back (`--reconnect`).
 *
 * A client and its server notice a loss at different times, and the server may never notice it: a dead link
 * sends no FIN. So the tracker goes by what connections do. A later connection that moves the stream makes
 * those before it stale: they do not count any more, unless they move the stream again. A connection that
 * repeats what an older one has sent is of the same client, which has come back, so the older one is ended.
 */
import { shutdown } from "../../ffi/socket.ts";
import type { Channel } from "./channel.ts";
import type { StreamEvent } from "./messages.ts";

/** The handler of a connection that may move the stream. */
export interface Mover {
  readonly channel: Channel;
  /** Drops what is under way. */
  abort(): boolean;
}

/** The moves of a connection. All moves of the stream are numbered. */
interface Moves {
  readonly first: number;
  last: number;
  /** A lost client has come back on this connection. */
  returned: boolean;
}

export class ReconnectTracker {
  readonly #post: (event: StreamEvent) => void;
  /** The open connections that have moved the stream. */
  readonly #movers = new Map<Mover, Moves>();
  /** The highest number of a connection that has moved the stream; 0 is none. */
  #newest = 0;
  #moves = 0;
  /** Of each client that was lost and has not come back, its last move. */
  readonly #lost: number[] = [];

  constructor(post: (event: StreamEvent) => void) {
    this.#post = post;
  }

  /** True when a connection that began later than this one has moved the stream. */
  isOld({ channel }: Mover): boolean {
    return channel.id < this.#newest;
  }

  /** The client of a connection that moved the stream, and is not stale, is lost. */
  lost(mover: Mover): void {
    this.#lost.push(this.#movers.get(mover)?.last ?? 0);
  }

  /**
   * A connection moves the stream. If its first move came after the last one of a client that was lost,
   * that client has come back; a connection that moved the stream before that is another client's. The
   * stream is "resumed" when all lost clients are back.
   *
   * @returns true when this was the last of them
   */
  moved(mover: Mover): boolean {
    const move = ++this.#moves;
    if (mover.channel.id > this.#newest) {
      this.#newest = mover.channel.id;
      for (const other of this.#movers.keys()) other.channel.stale = true;
    }
    mover.channel.stale = false;
    const moves = this.#movers.get(mover) ?? { first: move, last: move, returned: false };
    moves.last = move;
    this.#movers.set(mover, moves);
    return this.#lost.length > 0 && this.#isLastToReturn(moves);
  }

  #isLastToReturn(moves: Moves): boolean {
    const place = this.#lost.findIndex((last) => moves.first > last);
    if (place < 0 || moves.returned) return false;
    moves.returned = true;
    this.#lost.splice(place, 1);
    if (this.#lost.length > 0) return false;
    this.#post({ type: "resumed" });
    return true;
  }

  /** A connection repeats what older ones have sent. */
  replaceOlder(mover: Mover): void {
    for (const other of [...this.#movers.keys()]) {
      if (other.channel.id < mover.channel.id) this.replace(other);
    }
  }

  /** Ends a connection whose client has come back on another one. */
  replace(mover: Mover): void {
    mover.channel.stale = true;
    mover.abort();
    mover.channel.replaced = true;
    // Wakes the loop, whatever the connection waits for, and tells the client.
    shutdown(mover.channel.fd);
  }

  closed(mover: Mover): void {
    this.#movers.delete(mover);
  }
}
