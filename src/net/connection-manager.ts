/** Who is let in: the sessions that negotiate, and their number. */
import type { Socket, SocketHandler } from "bun";
import { noticeDeadPeer } from "../../ffi/socket.ts";
import { connectionLimit } from "./connection-limit.ts";
import { Session, type SessionEvents, type SessionOptions } from "./session.ts";

/** Seconds of silence after which the kernel asks a TCP client whether it is still there. */
const KEEPALIVE = 30;

/** Newcomers that may wait for a place at a time; the others are turned away at once. */
const WAITING = 4;

/**
 * Milliseconds for clients with TLS to take what is on its way, and with it how the connection ends,
 * when a signal has asked for the end.
 */
const STOP_GRACE = 300;

/** Descriptors of one connection: with TLS there are a socket and the two ends of a bridge. */
const DESCRIPTORS = { off: 1, on: 3, require: 3 } as const;

export interface ConnectionManagerOptions extends SessionOptions {
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
  /** Seconds in which a client whose link is dead is to be missed; undefined is as it comes. */
  readonly reconnect: number | undefined;
  /** How many have left negotiation and are connected. */
  readonly inTransmission: () => number;
  /** Asks for a place of somebody who has it for nothing; {@link ConnectionManager.answered} has the answer. */
  readonly makeRoom: () => void;
}

/** Those who have not chosen the export yet. */
export interface Negotiating {
  readonly count: number;
  /** Milliseconds since one of them has come, or has said something; Infinity where there is none. */
  readonly silence: number;
}

/** Takes connections from wherever they come, and negotiates with them. */
export class ConnectionManager {
  /** What Bun calls for every connection. */
  readonly handler: SocketHandler<Session>;
  readonly #options: ConnectionManagerOptions;
  readonly #events: SessionEvents;
  readonly #sessions = new Set<Session>();
  /** Newcomers for whom there was no place, until the answer is there whether there is one. */
  readonly #waiting = new Set<Socket<Session>>();
  /** Called when a session is over. */
  #gone = () => {};
  /** What {@link ConnectionManagerOptions.maxConnections} is not to exceed. */
  readonly #allowed: number;
  /** Connections that were let in so far. */
  visitors = 0;
  constructor(options: ConnectionManagerOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    this.#allowed = connectionLimit(DESCRIPTORS[options.security.policy]);
    this.handler = {
      open: (socket) => {
        if (!this.#isFull) this.#admit(socket);
        else if (this.#waiting.size < WAITING) this.#askFor(socket);
        else this.#refuse(socket);
      },
      data: (socket, chunk) => socket.data?.data(socket, chunk),
      drain: (socket) => socket.data?.drain(socket),
      end: (socket) => void socket.end(),
      error: () => {
        // `close` follows, and says all there is to say.
      },
      close: (socket) => {
        this.#waiting.delete(socket);
        if (socket.data === undefined) return;
        this.#sessions.delete(socket.data);
        socket.data.closed();
        this.#gone();
      },
    };
  }

  #admit(socket: Socket<Session>): void {
    this.visitors++;
    const session = new Session(socket, this.visitors, this.#options, this.#events);
    socket.data = session;
    this.#sessions.add(session);
    socket.setNoDelay?.(true);
    socket.setKeepAlive?.(true, KEEPALIVE * 1000);
    const { reconnect } = this.#options;
    // Bun's types do not tell of `fd`.
    if (reconnect !== undefined)
      noticeDeadPeer((socket as unknown as { fd: number }).fd, reconnect);
    session.start();
  }

  #askFor(socket: Socket<Session>): void {
    // What it says before it is greeted is for whoever greets it.
    socket.pause();
    this.#waiting.add(socket);
    this.#options.makeRoom();
  }

  /** There is an answer to {@link ConnectionManagerOptions.makeRoom}: a place has become free, or has not. */
  answered(): void {
    const [socket] = this.#waiting;
    if (socket === undefined) return;
    this.#waiting.delete(socket);
    if (this.#isFull) {
      this.#refuse(socket);
    } else {
      socket.resume();
      this.#admit(socket);
    }
  }

  /** True while somebody waits for a place. */
  get isAsked(): boolean {
    return this.#waiting.size > 0;
  }

  /** Connections that are negotiating. @param visitors counts only the first so many that were let in */
  negotiating(visitors = Number.POSITIVE_INFINITY): Negotiating {
    let count = 0;
    let latest = Number.NEGATIVE_INFINITY;
    for (const { left, number, heard } of this.#sessions) {
      if (left || number > visitors) continue;
      count++;
      latest = Math.max(latest, heard);
    }
    return { count, silence: performance.now() - latest };
  }

  /** Ends what is still negotiating. */
  close(): void {
    for (const socket of this.#waiting) socket.terminate();
    for (const session of this.#sessions) if (!session.left) session.terminate();
  }

  /**
   * Resolves when what was said last has reached all clients with TLS, or they do not take it; the
   * stream thread has to be over. After `stop` they have no longer than {@link STOP_GRACE}.
   */
  async flushTls(stop: AbortSignal): Promise<void> {
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

  get #most(): number {
    return Math.min(this.#options.maxConnections, this.#allowed);
  }

  get #isFull(): boolean {
    return this.negotiating().count + this.#options.inTransmission() >= this.#most;
  }

  #refuse(socket: Socket<Session>): void {
    const { maxConnections } = this.#options;
    const open = this.#most;
    const descriptors = open < maxConnections;
    this.#events.onClose({ code: "CONNECTIONS_FULL", open, descriptors }, false);
    socket.terminate();
  }
}
