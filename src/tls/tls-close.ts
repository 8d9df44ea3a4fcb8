/** Closes a TLS connection with close_notify (RFC 8446, 6.1), after all that was written. */
import type { Socket } from "bun";
import { POLLOUT } from "../../ffi/constants.ts";
import { pollOne } from "../../ffi/poll.ts";

/** Milliseconds between two checks of a client that is slow to take what it was sent. */
const CHECK_INTERVAL = 10;

const NOTHING = new Uint8Array(0);

/** Members of Bun's sockets that its types do not have. */
interface Closable {
  readonly fd: number;
  close(): void;
}

export class TlsClose {
  readonly #socket: Socket<any>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #begun = false;
  #over = false;

  constructor(socket: Socket<any>) {
    this.#socket = socket;
  }

  /** Sends close_notify and closes the connection, as soon as the kernel has room. */
  begin(): void {
    if (this.#begun || this.#over) return;
    this.#begun = true;
    this.#check(false);
  }

  /**
   * Bun drops a close_notify that the kernel does not take at once. The kernel takes it when there is
   * room before *and* after a turn of the event loop, in which Bun would have written what it still
   * had.
   *
   * @param hadRoom true if there was room a turn ago
   */
  #check(hadRoom: boolean): void {
    if (this.#over) return;
    const room = hasRoom(this.#socket);
    if (room && hadRoom && this.#close()) return;
    this.#timer = setTimeout(() => this.#check(room), room && !hadRoom ? 0 : CHECK_INTERVAL);
  }

  /** Closes the connection without waiting for the client to take anything. */
  abort(): void {
    if (!this.#close()) this.#socket.terminate();
  }

  /** Called when the connection is closed, by either side. */
  closed(): void {
    this.#over = true;
    clearTimeout(this.#timer);
  }

  /** @returns false while data that was written before waits */
  #close(): boolean {
    this.#socket.shutdown();
    // After shutdown() Bun takes no data: write() returns 0 while data waits, and -1 otherwise.
    if (this.#socket.write(NOTHING) === 0) return false;
    // Not end(): with data left, the socket could not be terminated afterwards.
    (this.#socket as unknown as Closable).close();
    return true;
  }
}

/** True when the kernel takes more, or the connection is lost (POLLOUT). */
function hasRoom(socket: Socket<any>): boolean {
  return pollOne((socket as unknown as Closable).fd, POLLOUT) !== 0;
}
