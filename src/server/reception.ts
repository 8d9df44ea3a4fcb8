/** Who is let in: the sessions that negotiate, and their number. */
import type { SocketHandler } from "bun";
import { connectionsAllowed } from "./descriptors.ts";
import { Session, type SessionEvents, type SessionOptions } from "./session.ts";

/** Seconds of silence after which the kernel asks a TCP client whether it is still there. */
const KEEPALIVE = 30;

/**
 * Milliseconds for clients with TLS to take what is on its way, and with it how the connection ends,
 * when a signal has asked for the end.
 */
const STOP_GRACE = 300;

/** Descriptors of one connection: with TLS there are a socket and the two ends of a bridge. */
const DESCRIPTORS = { off: 1, on: 3, require: 3 } as const;

export interface ReceptionOptions extends SessionOptions {
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
  /** How many have left negotiation and are connected. */
  readonly inTransmission: () => number;
}

/** Takes connections from wherever they come, and negotiates with them. */
export class Reception {
  /** What Bun calls for every connection. */
  readonly handler: SocketHandler<Session>;
  readonly #options: ReceptionOptions;
  readonly #events: SessionEvents;
  readonly #sessions = new Set<Session>();
  /** Called when a session is over. */
  #gone = () => {};
  /** What {@link ReceptionOptions.maxConnections} is not to exceed. */
  readonly #allowed: number;
  /** Connections that were let in so far. */
  visitors = 0;

  constructor(options: ReceptionOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    this.#allowed = connectionsAllowed(DESCRIPTORS[options.security.policy]);
    this.handler = {
      open: (socket) => {
        if (this.#isFull()) {
          socket.terminate();
          return;
        }
        const session = new Session(socket, options, events);
        socket.data = session;
        this.#sessions.add(session);
        this.visitors++;
        socket.setNoDelay?.(true);
        socket.setKeepAlive?.(true, KEEPALIVE * 1000);
        session.start();
      },
      data: (socket, chunk) => socket.data?.data(socket, chunk),
      drain: (socket) => socket.data?.drain(socket),
      end: (socket) => void socket.end(),
      error: () => {
        // `close` follows, and says all there is to say.
      },
      close: (socket) => {
        if (socket.data === undefined) return;
        this.#sessions.delete(socket.data);
        socket.data.closed();
        this.#gone();
      },
    };
  }

  /** Connections that are negotiating. */
  get negotiating(): number {
    let number = 0;
    for (const session of this.#sessions) if (!session.left) number++;
    return number;
  }

  /** Ends what is still negotiating. */
  close(): void {
    for (const session of this.#sessions) if (!session.left) session.terminate();
  }

  /**
   * Resolves when what was said last has reached all clients with TLS, or they do not take it; the
   * stream thread has to be over. After `stop` they have no longer than {@link STOP_GRACE}.
   */
  async farewell(stop: AbortSignal): Promise<void> {
    let grace: ReturnType<typeof setTimeout> | undefined;
    let expire = () => {};
    const hurry = () => (grace = setTimeout(() => expire(), STOP_GRACE));
    const late = new Promise<void>((resolve) => (expire = resolve));
    if (stop.aborted) hurry();
    else stop.addEventListener("abort", hurry);
    await Promise.race([late, this.#noneBridged()]);
    stop.removeEventListener("abort", hurry);
    clearTimeout(grace);
  }

  async #noneBridged(): Promise<void> {
    while ([...this.#sessions].some((session) => session.bridged)) {
      await new Promise<void>((resolve) => (this.#gone = resolve));
    }
  }

  #isFull(): boolean {
    const { maxConnections, inTransmission } = this.#options;
    const most = Math.min(maxConnections, this.#allowed);
    if (this.negotiating + inTransmission() < most) return false;
    const why = most < maxConnections ? "ulimit -n has room for no more" : "--max-connections";
    const reason = `a connection was refused: ${most} are open (${why})`;
    this.#events.onClose(reason, false);
    return true;
  }
}
