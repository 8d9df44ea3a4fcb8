/**
 * The stream thread's loop: one synchronous poll(2) over the wake descriptor, the endpoint and every
 * client. Nothing else in the thread waits.
 */
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { PollSet, type WakeUp } from "../../ffi/poll.ts";
import { EndpointError } from "../endpoint/error.ts";
import { BufferPool } from "./buffer-pool.ts";
import { Channel } from "./channel.ts";
import { Connection } from "./connection.ts";
import type { Flow } from "./flow.ts";
import { IdleConnections } from "./idle.ts";
import type { Command, Standing, StreamEvent } from "./messages.ts";
import { BusyPoll } from "./busy-poll.ts";

/** Milliseconds between two looks for the other end: a FIFO does not tell when one comes. */
const OPEN_INTERVAL = 20;
/**
 * Milliseconds that a client may stop for in the middle of a request while one that came later waits
 * for that, where clients may come back: it may be the same client, whose older link is dead.
 */
const TURN_LIMIT = 2000;
/** Anything but POLLIN and POLLOUT that may come back for a client. */
const HANGUP = POLLRDHUP | POLLHUP | POLLERR;

/** What the engine is made of. */
export interface EngineOptions {
  readonly flow: Flow;
  /** Milliseconds that a client may stop for in the middle of a request; undefined is for ever. */
  readonly idleTimeout: number | undefined;
  /** Milliseconds in place of TURN_LIMIT. */
  readonly turnLimit?: number;
  /** Readable when {@link receive} has something. */
  readonly wake: WakeUp;
  /** The next command, if there is one. */
  readonly receive: () => Command | undefined;
  readonly post: (event: StreamEvent) => void;
}

/** Runs a stream from the first client to the end. */
export class Engine {
  readonly #options: EngineOptions;
  readonly #flow: Flow;
  readonly #pool = new BufferPool();
  readonly #poll = new PollSet();
  readonly #busyPoll = new BusyPoll();
  /** Those that take part in every turn. */
  readonly #connections: Connection[] = [];
  readonly #idle = new IdleConnections();
  #state: "running" | "finishing" | "over" = "running";
  /** There may be commands. */
  #woken = true;
  /** An answer is asked for, once everything has been looked at. */
  #echo: "asked" | "looking" | undefined;
  /** What the flow's mark was at the last look. */
  #mark = "";

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#flow = options.flow;
  }

  /** True when the stream has ended and everything is closed. */
  get over(): boolean {
    return this.#state === "over";
  }

  /** Does what can be done, then waits up to `limit` milliseconds (-1: as long as it takes). */
  turn(limit = -1): void {
    if (this.#woken) this.#obeyAll();
    if (this.over) return;
    this.#open();
    for (const connection of this.#connections) {
      if (connection.runnable) connection.advance();
    }
    this.#reap();
    if (this.#state === "finishing") this.#finish();
    this.#answerEcho();
    if (!this.over) this.#wait(limit);
  }

  #obeyAll(): void {
    const { wake, receive } = this.#options;
    // In this order: what comes in between wakes again.
    wake.clear();
    this.#woken = false;
    for (let command = receive(); command; command = receive()) this.#obey(command);
  }

  #obey(command: Command): void {
    switch (command.type) {
      case "connection":
        this.#connect(command);
        break;
      case "look":
        this.#options.post({ type: "standing", ...this.#look() });
        break;
      case "dismiss":
        this.#dismiss(command.whom);
        break;
      case "make-room":
        this.#makeRoom();
        break;
      case "give-up":
        this.#flow.endReconnect();
        break;
      case "settled":
        this.#flow.settled(command.problem);
        break;
      case "finish":
        this.#flow.endReconnect();
        this.#flow.beginFinish(command.short);
        this.#state = "finishing";
        break;
      case "echo":
        this.#echo = "asked";
        break;
      case "abort":
        this.#end();
    }
  }

  #connect({ id, client }: Command & { type: "connection" }): void {
    // Too late: nothing may move behind a finish.
    if (this.#state !== "running") {
      close(client.fd);
      const nothing = { end: "dropped", streamed: false } as const;
      this.#options.post({ type: "closed", id, ...nothing });
      return;
    }
    const channel = new Channel(id, client, this.#pool, this.#flow.repliesCapacity);
    this.#connections.push(new Connection(channel, this.#flow));
  }

  #look(): Standing {
    const { full, mark } = this.#flow;
    const moved = mark !== this.#mark;
    this.#mark = mark;
    let engaged = 0;
    let held = false;
    let latest = Number.NEGATIVE_INFINITY;
    for (const connection of [...this.#connections, ...this.#idle]) {
      const { channel, idleSince } = connection;
      if (isEngaged(connection)) engaged++;
      held ||= channel.needsEndpoint;
      // Whoever waits for its turn waits for one that may be silent.
      if (channel.needsTurn) continue;
      latest = Math.max(latest, waitsForClient(channel) ? idleSince : performance.now());
    }
    return { full, moved, engaged, held, silence: performance.now() - latest };
  }

  /** Ends connections; {@link #reap} tells of them. */
  #dismiss(whom: "all" | "silent"): void {
    this.#idle.wakeAll((connection) => this.#connections.push(connection));
    for (const connection of this.#connections) {
      if (connection.ended !== undefined) continue;
      if (whom === "all") connection.end("left-behind");
      else if (!isEngaged(connection)) connection.end("dismissed");
    }
  }

  /**
   * Of the clients that have been here for as long as a client may be silent, and have moved nothing
   * in that time, ends the connection of the one that has been silent for longest.
   */
  #makeRoom(): void {
    const { idleTimeout = Number.POSITIVE_INFINITY, post } = this.#options;
    const now = performance.now();
    const [first] = [...this.#connections, ...this.#idle]
      .filter((one) => one.ended === undefined && !isEngaged(one))
      .filter((one) => now - one.since >= idleTimeout)
      .toSorted((one, other) => one.idleSince - other.idleSince);
    if (first !== undefined) {
      if (this.#idle.release(first)) this.#connections.push(first);
      first.end("displaced");
      this.#reap();
    }
    post({ type: "room", made: first !== undefined });
  }

  /** Answers once poll(2) has been asked since, and nobody has anything left to do. */
  #answerEcho(): void {
    if (this.#echo === "looking" && !this.#connections.some((c) => c.runnable)) {
      this.#echo = undefined;
      this.#options.post({ type: "echo" });
    } else if (this.#echo === "asked") {
      this.#echo = "looking";
    }
  }

  #open(): void {
    if (this.#flow.isOpen || this.#flow.failure !== undefined) return;
    this.#guarded(() => {
      if (this.#flow.open()) this.#options.post({ type: "endpoint-open" });
    });
  }

  /** Runs what may find that the endpoint has failed. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof EndpointError)) throw error;
      this.#flow.failed(error);
    }
  }

  #reap(): void {
    for (let i = this.#connections.length - 1; i >= 0; i--) {
      const connection = this.#connections[i] as Connection;
      const { ended, counts } = connection;
      if (ended === undefined) continue;
      connection.close();
      this.#connections.splice(i, 1);
      if (counts && ended !== "disconnected") connection.clientLost();
      const { id } = connection.channel;
      this.#options.post({ type: "closed", id, end: ended, streamed: counts });
    }
  }

  #finish(): void {
    let done = false;
    if (this.#flow.failure === undefined) {
      this.#guarded(() => {
        done = this.#flow.finish();
      });
    }
    if (done || this.#flow.failure !== undefined) this.#end();
  }

  #end(): void {
    for (const connection of [...this.#connections, ...this.#idle]) connection.close();
    this.#connections.length = 0;
    this.#idle.close();
    this.#state = "over";
    this.#options.post({ type: "ended", ...this.#flow.close() });
  }

  #wait(limit: number): void {
    const poll = this.#poll;
    const { fd } = this.#flow;
    poll.clear();
    poll.add(this.#options.wake.fd, POLLIN);
    const idleAt = poll.add(this.#idle.fd, POLLIN);
    const finishing = this.#state === "finishing";
    const wantedEvents = fd < 0 ? -1 : this.#flow.events(finishing || this.#wantEndpoint);
    const endpointAt = wantedEvents < 0 ? -1 : poll.add(fd, wantedEvents);
    const first = endpointAt < 0 ? idleAt + 1 : endpointAt + 1;
    for (const { channel } of this.#connections) {
      // A peer that is gone is reported at every poll, wanted or not: -1 keeps the place and is
      // silent.
      const events = clientEvents(channel);
      poll.add(channel.gone && events === 0 ? -1 : channel.fd, events);
    }
    if (limit === 0 || this.#hasWork) poll.wait(0);
    else if (!this.#busyPoll.spin(poll)) this.#busyPoll.sleep(poll, this.#timeout(limit));
    this.#woken = poll.revents(0) !== 0;
    if (endpointAt >= 0) this.#flow.reported(poll.revents(endpointAt), finishing);
    for (let i = 0; i < this.#connections.length; i++) {
      const revents = poll.revents(first + i);
      if (revents !== 0) clientReported(this.#connections[i] as Connection, revents);
    }
    const now = performance.now();
    this.#endSilent(now);
    this.#partFromIdle(now, poll.revents(idleAt) !== 0);
  }

  get #wantEndpoint(): boolean {
    for (const { channel } of this.#connections) if (channel.needsEndpoint) return true;
    return false;
  }

  /** True when something can be done without waiting for anybody. */
  get #hasWork(): boolean {
    if (this.#echo !== undefined) return true;
    if (this.#state === "finishing") {
      const { failure, isOpen, finishInterval } = this.#flow;
      if (failure !== undefined || (isOpen && finishInterval <= 0)) return true;
    }
    for (const connection of this.#connections) {
      if (connection.runnable || connection.ended !== undefined) return true;
    }
    return false;
  }

  /** @param now performance.now() @param news there is something to do for idle ones */
  #partFromIdle(now: number, news: boolean): void {
    for (let i = this.#connections.length - 1; i >= 0; i--) {
      if (this.#idle.admit(this.#connections[i] as Connection, now)) {
        this.#connections.splice(i, 1);
      }
    }
    if (!news) return;
    this.#idle.wake((connection, revents) => {
      this.#connections.push(connection);
      // What it was silent for before does not count against the request that comes now.
      connection.idleSince = now;
      clientReported(connection, revents);
    });
  }

  /** Milliseconds to sleep for while there is nothing to do; -1 is until something happens. */
  #timeout(limit: number): number {
    let timeout = limit < 0 ? Number.POSITIVE_INFINITY : limit;
    const within = (milliseconds: number) => {
      timeout = Math.min(timeout, Math.max(0, Math.ceil(milliseconds)));
    };
    if (this.#flow.failure === undefined) {
      if (!this.#flow.isOpen) within(OPEN_INTERVAL);
      else if (this.#state === "finishing") within(this.#flow.finishInterval);
    }
    for (const connection of this.#connections) {
      if (!waitsForClient(connection.channel)) continue;
      within(connection.idleSince + this.#patienceWith(connection) - performance.now());
    }
    return timeout === Number.POSITIVE_INFINITY ? -1 : timeout;
  }

  /** Milliseconds that a client may be silent for now. */
  #patienceWith(connection: Connection): number {
    const { idleTimeout = Number.POSITIVE_INFINITY, turnLimit = TURN_LIMIT } = this.#options;
    if (!connection.midRequest) return Number.POSITIVE_INFINITY;
    return this.#isWaitedFor(connection) ? Math.min(turnLimit, idleTimeout) : idleTimeout;
  }

  /** True when a connection that began later waits for its turn, and may be the same client's. */
  #isWaitedFor({ channel: { id } }: Connection): boolean {
    if (!this.#flow.clientsReturn) return false;
    return this.#connections.some(({ channel }) => channel.needsTurn && channel.id > id);
  }

  /** Ends the connections whose clients have been silent for too long. @param now performance.now() */
  #endSilent(now: number): void {
    for (const connection of this.#connections) {
      if (!waitsForClient(connection.channel)) connection.idleSince = now;
      else if (now - connection.idleSince >= this.#patienceWith(connection)) {
        connection.end("stalled");
      }
    }
  }
}

function clientEvents({ needsInput, replies, halfClosed }: Channel): number {
  const events = (needsInput ? POLLIN : 0) | (replies.empty ? 0 : POLLOUT);
  return events === 0 && !halfClosed ? POLLRDHUP : events;
}

/**
 * True for a client that has moved the stream, if no later one has taken its place since, or that waits
 * for the endpoint or for others.
 */
function isEngaged({ counts, channel }: Connection): boolean {
  return counts || !waitsForClient(channel);
}

/** True when it is for the client to do something. */
function waitsForClient({ needsInput, needsOutput, needsEndpoint }: Channel): boolean {
  return (needsInput || needsOutput) && !needsEndpoint;
}

function clientReported(connection: Connection, revents: number): void {
  if ((revents & HANGUP) !== 0) connection.hangUp((revents & (POLLHUP | POLLERR)) !== 0);
  // After a hang-up, reading and sending do not block: they give what is left, or the error.
  const { channel } = connection;
  if ((revents & (POLLIN | HANGUP)) !== 0) channel.needsInput = false;
  if ((revents & (POLLOUT | HANGUP)) !== 0) {
    channel.needsOutput = false;
    connection.flush();
  }
}
