/**
 * The stream thread's loop: one synchronous poll(2) over the wake descriptor, the endpoint and every
 * client. Nothing else in the thread waits.
 */
import { POLLIN } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { PollSet } from "../../ffi/poll.ts";
import { EndpointError } from "../endpoint/error.ts";
import { BusyPoll } from "./busy-poll.ts";
import { Channel } from "./channel.ts";
import { Connection } from "./connection.ts";
import { IdleConnections } from "./idle.ts";
import { BufferPool } from "./input.ts";
import type { Command, StreamEvent, StreamStatus } from "./messages.ts";
import type { Stream } from "./stream.ts";

/** Milliseconds between two attempts to open the endpoint: poll(2) does not report the open of a FIFO. */
const OPEN_INTERVAL = 20;
/**
 * Milliseconds that a client may stop for in the middle of a request while a later connection waits for
 * its turn, where clients may come back: it may be the same client, whose older link is dead.
 */
const TURN_LIMIT = 2000;

export interface EngineOptions {
  readonly stream: Stream;
  /** Milliseconds that a client may stop for in the middle of a request; undefined is no limit. */
  readonly idleTimeout: number | undefined;
  /** Milliseconds in place of TURN_LIMIT. */
  readonly turnLimit?: number;
  /** A descriptor that is readable when there are commands. */
  readonly wakeFd: number;
  /** The next command, if there is one. Called after {@link Engine.woken}. */
  readonly receive: () => Command | undefined;
  readonly post: (event: StreamEvent) => void;
}

/** Runs a stream from the first client to the end. */
export class Engine {
  readonly #options: EngineOptions;
  readonly #stream: Stream;
  readonly #pool = new BufferPool();
  readonly #poll = new PollSet();
  readonly #busyPoll = new BusyPoll();
  /** The connections that are polled one by one. */
  readonly #connections: Connection[] = [];
  readonly #idle = new IdleConnections();
  #state: "running" | "finishing" | "over" = "running";
  /** There may be commands: the caller makes `wakeFd` unreadable, and has them for `receive`. */
  woken = true;
  /** How often "synced" is to be posted: after the next poll(2), and after the last one. */
  readonly #syncs = { asked: 0, polled: 0 };
  /** The stream's position at the last status. */
  #position = "";

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#stream = options.stream;
  }

  /** True when the stream has ended and everything is closed. */
  get over(): boolean {
    return this.#state === "over";
  }

  /** Does everything that does not block, then waits up to `limit` milliseconds (-1: no limit). */
  turn(limit = -1): void {
    if (this.woken) this.#takeCommands();
    if (this.over) return;
    this.#open();
    for (const connection of this.#connections) {
      if (connection.runnable) connection.advance();
    }
    this.#reap();
    if (this.#state === "finishing") this.#complete();
    this.#postSynced();
    if (!this.over) this.#wait(limit);
  }

  #takeCommands(): void {
    const { receive } = this.#options;
    this.woken = false;
    for (let command = receive(); command; command = receive()) this.#execute(command);
  }

  #execute(command: Command): void {
    switch (command.type) {
      case "connection":
        this.#connect(command);
        break;
      case "get-status":
        this.#options.post({ type: "status", ...this.#status() });
        break;
      case "dismiss":
        this.#dismiss(command.whom);
        break;
      case "evict-idle":
        this.#evictIdle();
        break;
      case "end-reconnect":
        this.#stream.endReconnect();
        break;
      case "exited":
        this.#stream.processExited(command.problem);
        break;
      case "finish":
        this.#stream.endReconnect();
        this.#stream.finish(command.short, command.asks === true);
        this.#state = "finishing";
        break;
      case "end":
        this.#stream.confirmEnd?.();
        break;
      case "sink":
        this.#stream.takeSink?.(command.endpoint);
        break;
      case "sync":
        this.#syncs.asked++;
        break;
      case "abort":
        this.#end();
    }
  }

  #connect({ id, client }: Command & { type: "connection" }): void {
    // Nothing may move the stream after "finish".
    if (this.#state !== "running") {
      close(client.fd);
      this.#options.post({ type: "closed", id, end: "dropped", streamed: false });
      return;
    }
    const channel = new Channel(id, client, this.#pool, this.#stream.repliesCapacity);
    this.#connections.push(new Connection(channel, this.#stream));
  }

  #status(): StreamStatus {
    const { full, position } = this.#stream;
    const moved = position !== this.#position;
    this.#position = position;
    let active = 0;
    let repeated = 0;
    let waitsForEndpoint = false;
    let latest = Number.NEGATIVE_INFINITY;
    for (const connection of [...this.#connections, ...this.#idle]) {
      if (isActive(connection)) active++;
      else if (connection.isRepeated) repeated++;
      waitsForEndpoint ||= connection.waitsForEndpoint;
      // It waits for another client, which may be silent.
      if (connection.waitsForTurn) continue;
      const { waitsForClient, idleSince } = connection;
      latest = Math.max(latest, waitsForClient ? idleSince : performance.now());
    }
    const silence = performance.now() - latest;
    return { full, moved, active, repeated, waitsForEndpoint, silence };
  }

  /** Ends connections; {@link #reap} posts their "closed". */
  #dismiss(whom: "all" | "silent"): void {
    this.#idle.wakeAll((connection) => this.#connections.push(connection));
    for (const connection of this.#connections) {
      if (connection.ended !== undefined) continue;
      if (whom === "all") connection.end("left-behind");
      else if (!isActive(connection)) connection.end("dismissed");
    }
  }

  /**
   * Ends the connection that has been silent for longest, of those that began at least `idleTimeout` ago and
   * have not moved the stream.
   */
  #evictIdle(): void {
    const { idleTimeout = Number.POSITIVE_INFINITY, post } = this.#options;
    const now = performance.now();
    const [first] = [...this.#connections, ...this.#idle]
      .filter((one) => one.ended === undefined && !isActive(one))
      .filter((one) => now - one.since >= idleTimeout)
      .toSorted((one, other) => one.idleSince - other.idleSince);
    if (first !== undefined) {
      if (this.#idle.release(first)) this.#connections.push(first);
      first.end("displaced");
      this.#reap();
    }
    post({ type: "evicted", found: first !== undefined });
  }

  /** Posts "synced" once poll(2) was called after the command, and no connection can do anything more. */
  #postSynced(): void {
    const syncs = this.#syncs;
    if (!this.#connections.some((c) => c.runnable)) {
      for (; syncs.polled > 0; syncs.polled--) this.#options.post({ type: "synced" });
    }
    if (syncs.polled > 0) return;
    syncs.polled = syncs.asked;
    syncs.asked = 0;
  }

  #open(): void {
    if (this.#stream.isOpen || this.#stream.failure !== undefined) return;
    this.#guarded(() => {
      if (this.#stream.open()) this.#options.post({ type: "endpoint-open" });
    });
  }

  /** Handles failures of the endpoint. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof EndpointError)) throw error;
      this.#stream.endpointFailed(error);
    }
  }

  #reap(): void {
    for (let i = this.#connections.length - 1; i >= 0; i--) {
      const connection = this.#connections[i] as Connection;
      const { ended, streamed } = connection;
      if (ended === undefined) continue;
      if (streamed && ended !== "disconnected") connection.clientLost();
      connection.close();
      this.#connections.splice(i, 1);
      this.#options.post({ type: "closed", id: connection.channel.id, end: ended, streamed });
    }
  }

  #complete(): void {
    let complete = false;
    if (this.#stream.failure === undefined) {
      this.#guarded(() => {
        complete = this.#stream.complete();
      });
    }
    if (complete || this.#stream.failure !== undefined) this.#end();
  }

  #end(): void {
    for (const connection of [...this.#connections, ...this.#idle]) connection.close();
    this.#connections.length = 0;
    this.#idle.close();
    this.#state = "over";
    this.#options.post({ type: "ended", ...this.#stream.close() });
  }

  /** Closes everything, in place of a regular end: an error of the program has come out of {@link turn}. */
  abandon(): void {
    const steps = [...this.#connections, ...this.#idle].map((one) => () => one.close());
    this.#state = "over";
    for (const step of [...steps, () => this.#idle.close(), () => this.#stream.close()]) {
      try {
        step();
      } catch {
        // The first error is the one to tell of.
      }
    }
  }

  #wait(limit: number): void {
    const poll = this.#poll;
    const { fd } = this.#stream;
    poll.clear();
    poll.add(this.#options.wakeFd, POLLIN);
    const idleAt = poll.add(this.#idle.fd, POLLIN);
    const finishing = this.#state === "finishing";
    const wantedEvents = fd < 0 ? -1 : this.#stream.events(finishing || this.#endpointWanted);
    const endpointAt = wantedEvents < 0 ? -1 : poll.add(fd, wantedEvents);
    const first = endpointAt < 0 ? idleAt + 1 : endpointAt + 1;
    for (const connection of this.#connections) {
      // poll(2) always reports a peer that is gone. A descriptor of -1 keeps the place without that.
      const { channel, events } = connection;
      poll.add(channel.gone && events === 0 ? -1 : channel.fd, events);
    }
    const asked = performance.now();
    if (limit === 0 || this.#hasWork) poll.wait(0);
    else if (!this.#busyPoll.spin(poll)) {
      this.#stream.beforeSleep?.();
      this.#busyPoll.sleep(poll, this.#timeout(limit));
    }
    this.woken = poll.revents(0) !== 0;
    if (endpointAt >= 0) this.#stream.reported(poll.revents(endpointAt), finishing);
    for (let i = 0; i < this.#connections.length; i++) {
      const revents = poll.revents(first + i);
      if (revents !== 0) (this.#connections[i] as Connection).reported(revents);
    }
    const now = performance.now();
    this.#endSilent(asked, now);
    this.#parkIdle(now, poll.revents(idleAt) !== 0);
  }

  get #endpointWanted(): boolean {
    for (const connection of this.#connections) if (connection.waitsForEndpoint) return true;
    return false;
  }

  /** True when something can be done at once. */
  get #hasWork(): boolean {
    if (this.#syncs.asked > 0 || this.#syncs.polled > 0) return true;
    if (this.#state === "finishing") {
      const { failure, isOpen, completeInterval } = this.#stream;
      if (failure !== undefined || (isOpen && completeInterval <= 0)) return true;
    }
    for (const connection of this.#connections) {
      if (connection.runnable || connection.ended !== undefined) return true;
    }
    return false;
  }

  /**
   * Moves idle connections out of the loop, and back when they are ready.
   *
   * @param now performance.now()
   * @param news the epoll(7) set of idle connections is readable
   */
  #parkIdle(now: number, news: boolean): void {
    for (let i = this.#connections.length - 1; i >= 0; i--) {
      if (this.#idle.admit(this.#connections[i] as Connection, now)) {
        this.#connections.splice(i, 1);
      }
    }
    if (!news) return;
    this.#idle.wake((connection, revents) => {
      this.#connections.push(connection);
      // The silence before does not count against the request that comes now.
      connection.idleSince = now;
      connection.reported(revents);
    });
  }

  /** The timeout of poll(2) in milliseconds; -1 is none. */
  #timeout(limit: number): number {
    let timeout = limit < 0 ? Number.POSITIVE_INFINITY : limit;
    const within = (milliseconds: number) => {
      timeout = Math.min(timeout, Math.max(0, Math.ceil(milliseconds)));
    };
    if (this.#stream.failure === undefined) {
      if (!this.#stream.isOpen) within(OPEN_INTERVAL);
      else if (this.#state === "finishing") within(this.#stream.completeInterval);
    }
    for (const connection of this.#connections) {
      if (!connection.waitsForClient) continue;
      within(connection.idleSince + this.#silenceLimit(connection) - performance.now());
    }
    return timeout === Number.POSITIVE_INFINITY ? -1 : timeout;
  }

  /** Milliseconds that a client may be silent for now. */
  #silenceLimit(connection: Connection): number {
    const { idleTimeout = Number.POSITIVE_INFINITY, turnLimit = TURN_LIMIT } = this.#options;
    if (!connection.midRequest) return Number.POSITIVE_INFINITY;
    return this.#isWaitedFor(connection) ? Math.min(turnLimit, idleTimeout) : idleTimeout;
  }

  /** True when a connection that began later waits for its turn, and may be of the same client. */
  #isWaitedFor({ channel: { id } }: Connection): boolean {
    if (!this.#stream.clientsReturn) return false;
    return this.#connections.some((one) => one.waitsForTurn && one.channel.id > id);
  }

  /**
   * Ends the connections whose clients have been silent for too long. What has come meanwhile, while this
   * thread had no processor, is only seen by the next poll(2).
   *
   * @param asked performance.now() when poll(2) was asked what has come
   * @param now performance.now()
   */
  #endSilent(asked: number, now: number): void {
    for (const connection of this.#connections) {
      if (!connection.waitsForClient) connection.idleSince = now;
      else if (asked - connection.idleSince >= this.#silenceLimit(connection)) {
        connection.end("stalled");
      }
    }
  }
}

/**
 * True for a client that has moved the stream and whose place no later one has taken, or that waits for the
 * endpoint or for other clients.
 */
function isActive({ streamed, waitsForClient }: Connection): boolean {
  return streamed || !waitsForClient;
}
