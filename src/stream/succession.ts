/**
 * Which of a stream's connections count, where clients may come back (`--reconnect`).
 *
 * A client and its server learn of a loss at different times, and the server may never learn of it:
 * a dead link sends no FIN. So the connections are not told apart by whether they are known to be
 * lost, but by what they do. One that began later and moves the stream succeeds those before it:
 * they do not count any more, unless they move the stream again themselves. One that repeats what an
 * older one has sent is that client, come back: the older one is cut.
 */
import type { StreamEvent } from "./messages.ts";

/** A connection, as far as it matters here. */
export interface Mover {
  /** They are numbered in the order in which they began. */
  readonly id: number;
  /** A later connection has moved the stream, and this one has not since. */
  superseded: boolean;
  /** Drops what is under way, and ends the connection. */
  replace(): void;
}

export class Succession {
  readonly #post: (event: StreamEvent) => void;
  /** Those that have moved the stream and are connected. */
  readonly #movers = new Set<Mover>();
  /** The last that has moved the stream; 0 is none. */
  #newest = 0;

  constructor(post: (event: StreamEvent) => void) {
    this.#post = post;
  }

  /** True when a connection that began later than this one has moved the stream. */
  isOld({ id }: Mover): boolean {
    return id < this.#newest;
  }

  /** A connection moves the stream. */
  moved(mover: Mover): void {
    if (mover.id > this.#newest) {
      this.#newest = mover.id;
      for (const other of this.#movers) this.#mark(other, true);
    } else {
      this.#mark(mover, false);
    }
    this.#movers.add(mover);
  }

  /** A connection repeats what older ones have sent. */
  replaceOlder(mover: Mover): void {
    for (const other of [...this.#movers]) {
      if (other.id < mover.id) this.replace(other);
    }
  }

  /** Cuts a connection whose client has come back on another one. */
  replace(mover: Mover): void {
    this.#mark(mover, true);
    mover.replace();
  }

  /** A connection has ended. */
  left(mover: Mover): void {
    this.#movers.delete(mover);
  }

  #mark(mover: Mover, superseded: boolean): void {
    if (mover.superseded === superseded) return;
    mover.superseded = superseded;
    this.#post({ type: "superseded", id: mover.id, superseded });
  }
}
