/** Accepts connections, up to the limit, and holds the sessions that negotiate. */
import type { Socket, SocketHandler } from "bun";
import { readdirSync, readFileSync } from "node:fs";
import { NoticeError } from "../messages/notice-error.ts";
import type { ExportInfo } from "../protocol/export.ts";
import {
  Session,
  type SessionEvents,
  type SessionOptions,
  type SessionSettings,
} from "./session.ts";

/** Seconds without data after which the kernel sends a TCP client keepalive probes. */
const KEEPALIVE = 30;

/** The most connections that may wait for a free place; others are refused at once. */
const MAX_WAITING = 4;

/** Milliseconds for clients with TLS to take the last bytes and close_notify after a stop signal. */
const STOP_GRACE = 1000;

/** Descriptors of one connection: with TLS, a socket and the two ends of a bridge. */
const DESCRIPTORS = { off: 1, on: 3, require: 3 } as const;

/** Descriptors of a further stream once clients can come: its thread's, and those of its sink or source. */
const STREAM_DESCRIPTORS = 8;

/**
 * Descriptors for other purposes than connections, with one stream: the stream thread's, the endpoint and its
 * pipes, a captive command's, files that are read now and then, and connections that wait for a place or are
 * accepted only to be refused.
 */
const RESERVED_DESCRIPTORS = 28;

export interface ConnectionSettings extends SessionSettings {
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
}

export interface ConnectionManagerOptions extends ConnectionSettings, SessionOptions {
  /** Returns how many connections are in the transmission phase. */
  readonly inTransmission: () => number;
  /** Closes an idle connection, and then calls {@link ConnectionManager.makeRoomDone}. */
  readonly makeRoom: () => void;
}

export interface Negotiating {
  readonly count: number;
  /** Milliseconds since one of them connected or sent data; Infinity when there is none. */
  readonly silence: number;
}

export class ConnectionManager {
  /** Bun's callbacks for every connection. */
  readonly handler: SocketHandler<Session>;
  readonly #options: ConnectionManagerOptions;
  readonly #events: SessionEvents;
  readonly #sessions = new Set<Session>();
  /** Connections that wait for {@link makeRoomDone}. */
  readonly #waiting = new Set<Socket<Session>>();
  /** Called when the next connection is closed. */
  readonly #closed = new Set<() => void>();
  /** The most connections that RLIMIT_NOFILE has room for; at least 1. */
  #descriptorLimit: number;
  /** Connections that have been accepted so far, without those that were refused. */
  accepted = 0;

  constructor(options: ConnectionManagerOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    this.#descriptorLimit = Math.max(1, this.#room(1).places);
    this.handler = {
      open: (socket) => {
        if (!this.#isFull) this.#accept(socket);
        else if (this.#waiting.size < MAX_WAITING) this.#wait(socket);
        else this.#refuse(socket);
      },
      data: (socket, chunk) => socket.data?.data(socket, chunk),
      drain: (socket) => socket.data?.drain(socket),
      end: (socket) => void socket.end(),
      error: () => {
        // `close` follows.
      },
      close: (socket) => {
        this.#waiting.delete(socket);
        if (socket.data === undefined) return;
        this.#sessions.delete(socket.data);
        socket.data.closed();
        for (const call of this.#closed) call();
        this.#closed.clear();
      },
    };
  }

  /**
   * Keeps descriptors for several streams, whose endpoints are prepared, and whose threads are not there yet. What
   * one stream needs has been kept from the beginning.
   *
   * @throws UserError ERR_LISTEN where not each of them can have a client: without a descriptor, Bun would end
   *   the program
   */
  reserve(streams: number): void {
    if (streams < 2) return;
    const { places, needed, limit } = this.#room(streams);
    if (places < streams) {
      throw new NoticeError("ERR_LISTEN", { code: "DESCRIPTORS_FEW", streams, needed, limit });
    }
    this.#descriptorLimit = places;
  }

  /**
   * How many connections the limit of open descriptors has room for beside so many streams (getrlimit(2),
   * RLIMIT_NOFILE). Without a free descriptor, the program could not even accept a connection to refuse it, and the
   * event loop would report the waiting client again and again.
   *
   * @returns also that limit, Infinity if it is not known, and the least that gives each stream a client
   */
  #room(streams: number): { places: number; needed: number; limit: number } {
    const each = DESCRIPTORS[this.#options.security.policy];
    const { limit, open } = descriptorUse();
    const reserved = open + RESERVED_DESCRIPTORS + (streams - 1) * STREAM_DESCRIPTORS;
    const places = Math.floor((limit - reserved) / each);
    return { places, needed: reserved + streams * each, limit };
  }

  #accept(socket: Socket<Session>): void {
    this.accepted++;
    const { handler } = this;
    const session = new Session(socket, this.accepted, handler, this.#options, this.#events);
    socket.data = session;
    this.#sessions.add(session);
    socket.setNoDelay?.(true);
    socket.setKeepAlive?.(true, KEEPALIVE * 1000);
    session.start();
  }

  #wait(socket: Socket<Session>): void {
    // Data that arrives before the greeting is left for the session.
    socket.pause();
    this.#waiting.add(socket);
    this.#options.makeRoom();
  }

  /** Must be called after {@link ConnectionManagerOptions.makeRoom}, with or without a free place. */
  makeRoomDone(): void {
    const [socket] = this.#waiting;
    if (socket === undefined) return;
    this.#waiting.delete(socket);
    if (this.#isFull) {
      this.#refuse(socket);
    } else {
      socket.resume();
      this.#accept(socket);
    }
  }

  /** True while a connection waits for a place. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /**
   * The connections that negotiate and may come to be an export's.
   *
   * @param last counts only sessions up to this number
   */
  negotiating(info?: ExportInfo, last = Number.POSITIVE_INFINITY): Negotiating {
    let count = 0;
    let latest = Number.NEGATIVE_INFINITY;
    for (const { over, number, lastInput, chosen } of this.#sessions) {
      if (over || number > last) continue;
      if (info !== undefined && chosen !== undefined && chosen !== info) continue;
      count++;
      latest = Math.max(latest, lastInput);
    }
    return { count, silence: performance.now() - latest };
  }

  /** Ends the connections that negotiate or wait. */
  close(): void {
    for (const socket of this.#waiting) socket.terminate();
    for (const session of this.#sessions) if (!session.over) session.terminate();
  }

  /** Ends the connections that have chosen an export, and are not in the transmission phase yet. */
  closeExport(info: ExportInfo): void {
    for (const session of this.#sessions) {
      if (!session.over && session.chosen === info) session.terminate();
    }
  }

  /**
   * Resolves when all clients of an export with TLS have taken the last bytes, or are too slow. The stream
   * thread must have ended. After `stop` they have {@link STOP_GRACE}.
   */
  async flushTls(info: ExportInfo, stop: AbortSignal): Promise<void> {
    let grace: ReturnType<typeof setTimeout> | undefined;
    let expire = () => {};
    const startGrace = () => (grace = setTimeout(() => expire(), STOP_GRACE));
    const expired = new Promise<void>((resolve) => (expire = resolve));
    if (stop.aborted) startGrace();
    else stop.addEventListener("abort", startGrace);
    await Promise.race([expired, this.#noneBridged(info)]);
    stop.removeEventListener("abort", startGrace);
    clearTimeout(grace);
  }

  async #noneBridged(info: ExportInfo): Promise<void> {
    const isBridged = ({ bridged, chosen }: Session) => bridged && chosen === info;
    while ([...this.#sessions].some(isBridged)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#closed.add(resolve);
      await promise;
    }
  }

  get #limit(): number {
    return Math.min(this.#options.maxConnections, this.#descriptorLimit);
  }

  get #isFull(): boolean {
    return this.negotiating().count + this.#options.inTransmission() >= this.#limit;
  }

  #refuse(socket: Socket<Session>): void {
    const { maxConnections } = this.#options;
    const open = this.#limit;
    const descriptors = open < maxConnections;
    this.#events.onClose({ code: "CONNECTIONS_FULL", open, descriptors }, false);
    socket.terminate();
  }
}

/** The limit, Infinity if it is not known, and how many are open. */
function descriptorUse(): { limit: number; open: number } {
  try {
    const limits = readFileSync("/proc/self/limits", "latin1");
    const limit = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
    return { limit, open: readdirSync("/proc/self/fd").length };
  } catch {
    return { limit: Number.POSITIVE_INFINITY, open: 0 };
  }
}
