/** The connections that nobody waits for: idle clients, however many, must not slow the others. */
import { EpollSet } from "../../ffi/epoll.ts";
import type { Connection } from "./connection.ts";

/** Milliseconds without a word after which a client counts as idle. */
const IDLE_AFTER = 100;

/** Keeps connections between two requests out of the loop until there is something to do. */
export class IdleConnections implements Iterable<Connection> {
  readonly #epoll = new EpollSet();
  readonly #connections = new Map<number, Connection>();

  /** To poll: readable when {@link wake} has something to do. */
  get fd(): number {
    return this.#epoll.fd;
  }

  /** Takes a connection in if it is idle. @param now performance.now() @returns true if it is */
  admit(connection: Connection, now: number): boolean {
    if (!connection.isWaitingForRequest || now - connection.idleSince < IDLE_AFTER) return false;
    this.#epoll.add(connection.channel.fd);
    this.#connections.set(connection.channel.fd, connection);
    return true;
  }

  /** Lets go of those of which there is news. @param back takes each, with its `POLL*` bits */
  wake(back: (connection: Connection, revents: number) => void): void {
    this.#epoll.take((fd, events) => {
      const connection = this.#connections.get(fd);
      if (connection === undefined) return;
      this.release(connection);
      back(connection, events);
    });
  }

  /** Lets go of all. */
  wakeAll(back: (connection: Connection) => void): void {
    for (const connection of this) {
      this.release(connection);
      back(connection);
    }
  }

  [Symbol.iterator](): Iterator<Connection> {
    return [...this.#connections.values()][Symbol.iterator]();
  }

  /** Lets go of one. @returns false if it was not here */
  release({ channel }: Connection): boolean {
    if (!this.#connections.delete(channel.fd)) return false;
    this.#epoll.remove(channel.fd);
    return true;
  }

  close(): void {
    this.#epoll.close();
  }
}
