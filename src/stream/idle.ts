/** Idle connections: any number of them must not slow the others down. */
import { EpollSet } from "../../ffi/epoll.ts";
import type { Connection } from "./connection.ts";

/** Milliseconds of silence after which a client counts as idle. */
const IDLE_AFTER = 100;

/** Moves idle connections from the loop's poll(2) into an epoll(7) set until they have something to do. */
export class IdleConnections implements Iterable<Connection> {
  readonly #epoll = new EpollSet();
  readonly #connections = new Map<number, Connection>();

  /** Readable when {@link wake} has something to do. */
  get fd(): number {
    return this.#epoll.fd;
  }

  /** Adds a connection if it is idle. @param now performance.now() @returns true if it is */
  admit(connection: Connection, now: number): boolean {
    if (!connection.isWaitingForRequest || now - connection.idleSince < IDLE_AFTER) return false;
    this.#epoll.add(connection.channel.fd);
    this.#connections.set(connection.channel.fd, connection);
    return true;
  }

  /** Releases connections that are ready. @param back takes each, with its `POLL*` bits */
  wake(back: (connection: Connection, revents: number) => void): void {
    this.#epoll.take((fd, events) => {
      const connection = this.#connections.get(fd);
      if (connection === undefined) return;
      this.release(connection);
      back(connection, events);
    });
  }

  /** Releases all. */
  wakeAll(back: (connection: Connection) => void): void {
    for (const connection of this) {
      this.release(connection);
      back(connection);
    }
  }

  [Symbol.iterator](): Iterator<Connection> {
    return [...this.#connections.values()][Symbol.iterator]();
  }

  /** Releases one. @returns false if it is not here */
  release({ channel }: Connection): boolean {
    if (!this.#connections.delete(channel.fd)) return false;
    this.#epoll.remove(channel.fd);
    return true;
  }

  close(): void {
    this.#epoll.close();
  }
}
