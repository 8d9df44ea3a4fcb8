/** How a connection with TLS ends: by close_notify (RFC 8446, 6.1), behind all that was written. */
import type { Socket } from "bun";
import { POLLOUT } from "../../ffi/constants.ts";
import { PollSet } from "../../ffi/poll.ts";

/** Milliseconds until a socket is looked at again whose client is slow to take what it was sent. */
const LOOK = 10;

const NOTHING = new Uint8Array(0);
const poll = new PollSet();

/** Bun's sockets have these, but its types do not tell. */
interface Closable {
  readonly fd: number;
  close(): void;
}

/** The end of one connection. */
export class TlsClose {
  readonly #socket: Socket<any>;
  #looking: ReturnType<typeof setTimeout> | undefined;
  #begun = false;
  #over = false;

  constructor(socket: Socket<any>) {
    this.#socket = socket;
  }

  /** Ends TLS and closes the connection as soon as the kernel has room for it. */
  begin(): void {
    if (this.#begun || this.#over) return;
    this.#begun = true;
    this.#look(false);
  }

  /**
   * Bun forgets a close_notify that the kernel does not take at once. There is room for it when the
   * kernel has some before *and* after a turn of the event loop: in between, Bun would have written
   * what it still had.
   *
   * @param again true if there was room a turn ago
   */
  #look(again: boolean): void {
    if (this.#over) return;
    const room = hasRoom(this.#socket);
    if (room && again && this.#close()) return;
    this.#looking = setTimeout(() => this.#look(room), room && !again ? 0 : LOOK);
  }

  /** Ends a connection without waiting for the client to take anything. */
  abort(): void {
    if (!this.#close()) this.#socket.terminate();
  }

  /** The connection is closed, by whomever. */
  closed(): void {
    this.#over = true;
    clearTimeout(this.#looking);
  }

  /** @returns false when something that was written has to go first */
  #close(): boolean {
    this.#socket.shutdown();
    // Bun takes no data any more, and tells by how it says so: 0 while something waits, or else -1.
    if (this.#socket.write(NOTHING) === 0) return false;
    // Not end(): after that, and with something left to be written, it could not be terminated.
    (this.#socket as unknown as Closable).close();
    return true;
  }
}

/** True when the kernel takes what ends TLS, or the connection is lost (poll(2)). */
function hasRoom(socket: Socket<any>): boolean {
  poll.clear();
  poll.add((socket as unknown as Closable).fd, POLLOUT);
  return poll.wait(0) > 0;
}
