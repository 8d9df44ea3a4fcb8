/**
 * Which of a stream's connections count, where clients may come back (`--reconnect`).
 *
 * A client and its server learn of a loss at different times, and the server may never learn of it:
 * a dead link sends no FIN. So the connections are not told apart by whether they are known to be
 * lost, but by what they do. One that began later and moves the stream succeeds those before it:
 * they do not count any more, unless they move the stream again themselves. One that repeats what an
 * older one has sent is that client, come back: the older one is cut.
 */
import { shutdown } from "../../ffi/socket.ts";
import type { Channel } from "./channel.ts";
import type { StreamEvent } from "./messages.ts";

/** A connection, as far as it matters here. */
export interface Mover {
  readonly channel: Channel;
  /** Which of all moves of the stream were its first and its last so far; 0 is none. */
  firstMove: number;
  lastMove: number;
  /** Drops what is under way. */
  lose(): boolean;
}

export class Succession {
  readonly #post: (event: StreamEvent) => void;
  /** Those that have moved the stream and are connected. */
  readonly #movers = new Set<Mover>();
  /** The last that has moved the stream; 0 is none. */
  #newest = 0;
  #moves = 0;
  /** Of each client that was lost and has not come back, its last move. */
  readonly #lost: number[] = [];
  /** Those that have come back. */
  readonly #returned = new WeakSet<Mover>();

  constructor(post: (event: StreamEvent) => void) {
    this.#post = post;
  }

  /** True when a connection that began later than this one has moved the stream. */
  isOld({ channel }: Mover): boolean {
    return channel.id < this.#newest;
  }

  /** A client that has moved the stream, and whose place nobody has taken, is lost. */
  lost({ lastMove }: Mover): void {
    this.#lost.push(lastMove);
  }

  /**
   * A connection moves the stream. If it began to after a client had moved it for the last time that was
   * lost, it is that client, come back; one that had moved the stream before is another one.
   *
   * @returns true when nobody is waited for any more, and somebody was
   */
  moved(mover: Mover): boolean {
    mover.lastMove = ++this.#moves;
    mover.firstMove ||= mover.lastMove;
    this.#order(mover);
    return this.#lost.length > 0 && this.#takesPlace(mover);
  }

  #takesPlace(mover: Mover): boolean {
    const place = this.#lost.findIndex((last) => mover.firstMove > last);
    if (place < 0 || this.#returned.has(mover)) return false;
    this.#returned.add(mover);
    this.#lost.splice(place, 1);
    return this.#lost.length === 0;
  }

  #order(mover: Mover): void {
    if (mover.channel.id > this.#newest) {
      this.#newest = mover.channel.id;
      for (const other of this.#movers) this.#mark(other, true);
    } else {
      this.#mark(mover, false);
    }
    this.#movers.add(mover);
  }

  /** A connection repeats what older ones have sent. */
  replaceOlder(mover: Mover): void {
    for (const other of [...this.#movers]) {
      if (other.channel.id < mover.channel.id) this.replace(other);
    }
  }

  /** Cuts a connection whose client has come back on another one. */
  replace(mover: Mover): void {
    this.#mark(mover, true);
    mover.lose();
    mover.channel.replaced = true;
    // The loop hears of it, wherever the connection waits, and so does the client.
    shutdown(mover.channel.fd);
  }

  /** A connection has ended. */
  left(mover: Mover): void {
    this.#movers.delete(mover);
  }

  #mark({ channel }: Mover, superseded: boolean): void {
    if (channel.superseded === superseded) return;
    channel.superseded = superseded;
    this.#post({ type: "superseded", id: channel.id, superseded });
  }
}
