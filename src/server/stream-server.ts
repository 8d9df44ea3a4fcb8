/** A listener and a stream thread, and all that is known about the stream while it runs. */
import { cleaningUp } from "../clean-up.ts";
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Notice, Words } from "../messages/notice.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import type { Counters } from "../stream/counters.ts";
import type { NegotiatedConnection } from "../stream/channel.ts";
import type {
  ConnectionEnd,
  Ended,
  ShortStream,
  Standing,
  StreamEvent,
  StreamPlan,
} from "../stream/messages.ts";
import { type Address, type Entrance, nbdUri } from "../net/address.ts";
import { Condition } from "./condition.ts";
import { exportInfo } from "./disk.ts";
import { type StreamState, initialState } from "./stream-state.ts";
import { Listener } from "../net/listener.ts";
import type { Log } from "../log.ts";
import type { Stage } from "./observer.ts";
import { OpenTimer } from "./open-timer.ts";
import { ReconnectTimer } from "./reconnect-timer.ts";
import { type Negotiating, ConnectionManager } from "../net/connection-manager.ts";
import { RateLimitedWarning } from "./rate-limited-warning.ts";
import { StreamThread } from "./stream-thread.ts";
import { type Summary, summarize, type Verdict } from "./summary.ts";
import { requiredCertificates, type Security } from "../tls/certificates.ts";

/** Milliseconds for the stream thread to tell what has happened; a client may keep it busy. */
const ECHO_LIMIT = 200;
/** Milliseconds for the event loop to accept those who are connected already. */
const ACCEPT_LIMIT = 200;

export interface StreamServerOptions {
  readonly entrance: Entrance;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  readonly endpoint: Endpoint;
  readonly plan: StreamPlan;
  /** Seconds that a client whose connection is lost has to come back; undefined is none. */
  readonly reconnect: number | undefined;
  /** Seconds to wait for the other end of a FIFO; undefined is as long as it takes. */
  readonly openTimeout: number | undefined;
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => Notice | undefined;
  readonly security: Security;
  /** Seconds that negotiation may take. */
  readonly negotiationTimeout: number;
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
  /** Aborted when there is no time to wait any more. */
  readonly stop: AbortSignal;
  readonly workerUrl: URL;
  readonly log: Log;
  /** In whose words the summary is. */
  readonly vocabulary: Vocabulary;
}

/**
 * Runs the mechanism; what to do when is left to the caller, which waits for the state that it
 * wants with {@link until} and ends with {@link finish} or {@link abort}, and then {@link close}.
 */
export class StreamServer {
  readonly state: StreamState = initialState();
  /** Where clients can connect; undefined where there is no more to say than that they can. */
  readonly address: Address | undefined;
  readonly #log: Log;
  readonly #refusals: RateLimitedWarning;
  readonly #cuts: RateLimitedWarning;
  readonly #connections: ConnectionManager;
  readonly #listener: Listener;
  readonly #thread: StreamThread;
  readonly #conditions = new Condition();
  readonly #options: StreamServerOptions;
  readonly #otherEnd: OpenTimer;
  /** When the first client came, by performance.now(). */
  #started: number | undefined;
  #open = 0;
  #nextId = 1;
  /** Clients in the transmission phase, and whom to tell that they are no more. */
  readonly #released = new Map<number, () => void>();
  #listening = true;
  #opening = true;
  #finishing = false;
  #echo = () => {};
  #standing = (_: Standing) => {};
  readonly #reconnectTimer: ReconnectTimer;
  #end: Ended | undefined;
  #surplus: number | undefined;
  /** What the user was warned of that concerns the stream's bytes. */
  readonly #warnings: Notice[] = [];

  /** @throws UserError when the address is not to be had */
  constructor(options: StreamServerOptions) {
    this.#options = options;
    this.#log = options.log;
    const warn = (message: Words) => options.log.warn(message);
    this.#refusals = new RateLimitedWarning(
      warn,
      (count) => `${count} more connections were refused`,
    );
    this.#cuts = new RateLimitedWarning(warn, (count) => `${count} more clients were cut off`);
    const { security, negotiationTimeout, maxConnections, reconnect } = options;
    this.#connections = new ConnectionManager(
      {
        info: exportInfo(options.exportName, options.plan),
        security,
        negotiationTimeout,
        maxConnections,
        reconnect,
        inTransmission: () => this.#open,
        makeRoom: () => this.#thread.send({ type: "make-room" }),
      },
      {
        onTransmission: (client, released) => this.#connected(client, released),
        // What it would have written, or has written right behind its choice, is in no stream.
        onAbandon: () => (this.state.abandoned = true),
        onClose: (reason, fault) => {
          if (fault) this.#refusals.warn({ code: "CONNECTION_REFUSED", reason });
          else this.#log.verbose(reason);
          this.poke();
        },
      },
    );
    this.#listener = new Listener(options.entrance, this.#connections.handler);
    this.address = this.#listener.address;
    try {
      this.#thread = new StreamThread({
        workerUrl: options.workerUrl,
        plan: options.plan,
        onEvent: (event) => this.#heard(event),
        onCrash: (error) => {
          this.state.crash ??= error;
          this.state.ended = true;
          this.poke();
        },
      });
    } catch (error) {
      // No descriptor is left for it, for one.
      this.#stopListening();
      throw error;
    }
    this.#reconnectTimer = new ReconnectTimer(options.reconnect, this.state, {
      warn,
      giveUp: async () => {
        this.#thread.send({ type: "give-up" });
        // What exactly is missing is for the stream thread to tell.
        await this.sync();
      },
      decided: () => this.poke(),
    });
    this.#otherEnd = new OpenTimer({
      direction: options.plan.direction,
      name: options.endpoint.name,
      timeout: options.openTimeout,
      log: options.log,
      onTimeout: (failure) => {
        this.state.failure ??= failure;
        this.poke();
      },
    });
  }

  /** Clients in the transmission phase. */
  get open(): number {
    return this.#open;
  }

  get direction(): Direction {
    return this.#options.plan.direction;
  }

  /** The stream's length in bytes; undefined is without end. */
  get size(): bigint | undefined {
    return this.#options.plan.size;
  }

  /** Those who have come so far. */
  get visitors(): number {
    return this.#connections.visitors;
  }

  /** Who negotiates. @param visitors counts only the first so many that have ever come */
  negotiating(visitors?: number): Negotiating {
    return this.#connections.negotiating(visitors);
  }

  /** True when all bytes of the stream, up to its size, have moved. */
  get isThrough(): boolean {
    const { size } = this;
    return size !== undefined && this.counters.emitted >= size;
  }

  /** True when all clients that have come are gone, whether they got through negotiation or not. */
  get deserted(): boolean {
    return this.#connections.visitors > 0 && this.negotiating().count === 0 && this.#open === 0;
  }

  /** What the stream thread has told at its end; undefined before. */
  get end(): Ended | undefined {
    return this.#end;
  }

  get opened(): boolean {
    return !this.#opening;
  }

  get stage(): Stage {
    if (this.#finishing || this.state.ended) return "ending";
    if (this.#opening) return "opening";
    return this.#open === 0 ? "deserted" : "running";
  }

  /** Where clients of this machine can connect; undefined where {@link address} is. */
  get uri(): string | undefined {
    const { exportName = "", security } = this.#options;
    return this.address && nbdUri(this.address, exportName, requiredCertificates(security));
  }

  /** Seconds since the first client came; 0 before. */
  get elapsed(): number {
    return this.#started === undefined ? 0 : (performance.now() - this.#started) / 1000;
  }

  /** How far the stream is. */
  get counters(): Counters {
    return this.#thread.counters;
  }

  /**
   * Resolves as soon as `condition` holds; it is looked at after every event.
   *
   * @param timeout milliseconds after which it resolves all the same
   */
  until(condition: () => boolean, timeout?: number): Promise<void> {
    return this.#conditions.until(condition, timeout);
  }

  /** Has the conditions looked at again, after something that the server does not know of. */
  poke(): void {
    this.#conditions.poke();
  }

  /** Waits until those are let in, or are not, who are connected as far as the kernel is concerned. */
  async acceptAll(): Promise<void> {
    const deadline = performance.now() + ACCEPT_LIMIT;
    const isComing = () => this.#listener.hasWaiting || this.#connections.isAsked;
    while (this.#listening && isComing() && performance.now() < deadline) await Bun.sleep(1);
  }

  /** Where the stream and its clients stand; undefined where the stream thread does not tell now. */
  async look(): Promise<Standing | undefined> {
    let standing: Standing | undefined;
    this.#standing = (told) => {
      standing = told;
    };
    this.#thread.send({ type: "look" });
    await this.until(() => standing !== undefined || this.state.ended, ECHO_LIMIT);
    return standing;
  }

  /**
   * Without new clients, ends the connections of those that are not waited for any more, and hears what
   * that makes of the stream.
   *
   * @param whom all, or those that have moved nothing and have to say something first
   */
  async dismiss(whom: "all" | "silent"): Promise<void> {
    this.#stopListening();
    this.#thread.send({ type: "dismiss", whom });
    await this.sync();
  }

  /** A client that was lost does not come back any more, if it is not back. */
  async giveUpLost(): Promise<void> {
    await this.#reconnectTimer.giveUp();
  }

  /** Waits until everything that has happened up to now is in the state, but not for long. */
  async sync(): Promise<void> {
    let heard = false;
    this.#echo = () => {
      heard = true;
    };
    this.#thread.send({ type: "echo" });
    await this.until(() => heard || this.state.ended, ECHO_LIMIT);
  }

  /** Begins to end the stream well, without new clients; `state.ended` tells when it has. */
  finish(short: ShortStream): void {
    this.#stopListening();
    this.#finishing = true;
    this.#thread.send({ type: "finish", short });
  }

  /** Ends the stream where it stands. */
  abort(): void {
    this.#thread.send({ type: "abort" });
  }

  /** Stops listening and waits until the stream thread is gone; the stream must have been ended. */
  async close(): Promise<void> {
    await cleaningUp(
      () => {
        this.#otherEnd.settled();
        this.#reconnectTimer.end();
      },
      () => this.#stopListening(),
      () => this.#thread.join(),
      // Those that the end of the stream has cut off have not been told of one by one.
      () => {
        for (const released of this.#released.values()) released();
      },
      () => this.#connections.flushTls(this.#options.stop),
      () => {
        this.#refusals.end();
        this.#cuts.end();
      },
    );
  }

  #stopListening(): void {
    if (this.#listening) {
      this.#listener.close();
      this.#connections.close();
    }
    this.#listening = false;
  }

  /** What there is to tell about the stream at its end. */
  summary(verdict: Verdict): Summary {
    return summarize(verdict, {
      plan: this.#options.plan,
      counters: this.counters,
      seconds: this.elapsed,
      end: this.#end,
      surplus: this.#surplus,
      warnings: this.#warnings,
      vocabulary: this.#options.vocabulary,
    });
  }

  #warn(notice: Notice | undefined): void {
    if (notice === undefined) return;
    this.#warnings.push(notice);
    this.#log.warn(notice);
  }

  #connected(client: NegotiatedConnection, released: () => void): void {
    const id = this.#nextId++;
    this.#released.set(id, released);
    this.#open++;
    this.state.connected = true;
    this.#started ??= performance.now();
    this.#log.verbose(`client ${id} connected`);
    this.#thread.send({ type: "connection", id, client });
  }

  #heard(event: StreamEvent): void {
    switch (event.type) {
      case "endpoint-open":
        this.#opening = false;
        this.#otherEnd.settled();
        this.#log.verbose(`the ${this.#otherEnd.who} is there`);
        break;
      case "closed":
        this.#open--;
        this.#released.get(event.id)?.();
        this.#released.delete(event.id);
        this.state.streamed ||= event.streamed;
        if (event.streamed && isLoss(event.end)) this.#reconnectTimer.lost();
        this.state.abandoned ||= event.end === "dropped" || event.end === "cut";
        this.#tellEnd(event.id, event.end);
        break;
      case "standing":
        this.#standing(event);
        break;
      case "room":
        this.#connections.answered();
        break;
      case "resumed":
        this.#reconnectTimer.returned();
        break;
      case "broken":
        this.state.failure ??= event.failure;
        break;
      case "refused":
        this.state.refused ??= event;
        break;
      case "read-back":
        this.state.readBack = event;
        break;
      case "begins":
        this.#warn(this.#options.doubts?.(event.bytes));
        break;
      case "source-ended":
        void this.#settle();
        break;
      case "surplus":
        this.#surplus = event.bytes;
        this.#warn({
          code: "SURPLUS_LEFT",
          source: this.#options.endpoint.name,
          bytes: event.bytes,
          more: event.more,
          size: this.size,
        });
        break;
      case "echo":
        this.#echo();
        break;
      case "ended":
        this.#end = event;
        this.state.sourceEnded = event.sourceEnded;
        this.state.ended = true;
    }
    this.poke();
  }

  #tellEnd(id: number, end: ConnectionEnd): void {
    if (end === "garbage" || end === "stalled" || end === "displaced") {
      this.#cuts.warn({ code: "CLIENT_CUT_OFF", client: id, why: end });
    } else {
      this.#log.verbose(`client ${id} ended: ${end}`);
    }
  }

  /** Asks what the source's process has come to; the stream thread waits for it. */
  async #settle(): Promise<void> {
    const { endpoint, stop } = this.#options;
    this.#thread.send({ type: "settled", problem: await endpoint.settle(stop) });
  }
}

/** True where the client may not have meant to leave. */
function isLoss(end: ConnectionEnd): boolean {
  return end !== "disconnected" && end !== "left-behind";
}
