/** The server of one stream: a listener, the stream thread, and the state of the stream while it runs. */
import { cleaningUp } from "../clean-up.ts";
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Notice, Words } from "../messages/notice.ts";
import type { Counters } from "../stream/counters.ts";
import {
  type ConnectionEnd,
  type Ended,
  endOf,
  flushes,
  type NegotiatedConnection,
  type ShortStream,
  type StreamEvent,
  type StreamPlan,
  type StreamStatus,
} from "../stream/messages.ts";
import { type Address, nbdUri } from "../net/address.ts";
import { advertisedSize, type ExportInfo, READ_FLAGS, writeFlags } from "../protocol/export.ts";
import { Condition } from "./condition.ts";
import { type StreamState, initialState } from "./stream-state.ts";
import { Listener } from "../net/listener.ts";
import type { Log } from "../log.ts";
import type { Stage } from "./observer.ts";
import type { Verdict } from "./exit-status.ts";
import { OpenTimer, ReconnectTimer } from "./timers.ts";
import { type Negotiating, ConnectionManager } from "../net/connection-manager.ts";
import type { HostOptions } from "./settings.ts";
import { RateLimitedWarning } from "./rate-limited-warning.ts";
import { StreamThread } from "./stream-thread.ts";
import { type Summary, summarize } from "./summary.ts";
import { requiredCertificates } from "../tls/certificates.ts";

/** Milliseconds for the event loop to accept those who are connected already. */
const ACCEPT_LIMIT = 200;

export interface StreamServerOptions extends HostOptions {
  readonly endpoint: Endpoint;
  readonly plan: StreamPlan;
}

/**
 * Lets clients in and keeps the state up to date. When the stream ends is for the caller to decide: it waits
 * for a state with {@link until}, ends the stream with {@link finish} or {@link abort}, and then calls
 * {@link close}.
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
  /** By client in the transmission phase: what to call when its connection has ended. */
  readonly #released = new Map<number, () => void>();
  #listening = true;
  #opening = true;
  #finishing = false;
  readonly #reconnectTimer: ReconnectTimer;
  #end: Ended | undefined;
  #surplus: number | undefined;
  /** Warnings that concern the stream's bytes, for the summary. */
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
    this.#connections = new ConnectionManager(
      {
        ...options,
        info: exportInfo(options.exportName, options.plan),
        inTransmission: () => this.#open,
        makeRoom: () => this.#thread.send({ type: "evict-idle" }),
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
        this.#thread.send({ type: "end-reconnect" });
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

  /** Connections that have come so far. */
  get accepted(): number {
    return this.#connections.accepted;
  }

  /** Clients that negotiate. @param accepted counts only the first so many connections */
  negotiating(accepted?: number): Negotiating {
    return this.#connections.negotiating(accepted);
  }

  /** True when all bytes of the stream, up to its size, have moved. */
  get isThrough(): boolean {
    const { size } = this;
    return size !== undefined && this.counters.emitted >= size;
  }

  /** True when all clients that have come are gone, whether they got through negotiation or not. */
  get deserted(): boolean {
    return this.#connections.accepted > 0 && this.negotiating().count === 0 && this.#open === 0;
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

  /** Waits until every connection that the kernel has taken is accepted, or refused. */
  async acceptAll(): Promise<void> {
    const deadline = performance.now() + ACCEPT_LIMIT;
    const isComing = () => this.#listener.hasWaiting || this.#connections.hasWaiting;
    while (this.#listening && isComing() && performance.now() < deadline) await Bun.sleep(1);
  }

  /** Where the stream and its clients stand; undefined where the stream thread does not tell now. */
  status(): Promise<StreamStatus | undefined> {
    return this.#thread.status();
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
  sync(): Promise<void> {
    return this.#thread.sync();
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
      // The end of the stream has cut these off without an event for each.
      () => {
        for (const released of this.#released.values()) released();
      },
      () => this.#connections.flushTls(this.#options.stopSignal.stop),
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
      case "evicted":
        this.#connections.makeRoomDone();
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
      case "first-bytes":
        this.#warn(this.#options.doubts?.(event.bytes));
        break;
      case "source-ended":
        void this.#sendExit();
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
  async #sendExit(): Promise<void> {
    const { endpoint, stopSignal } = this.#options;
    const problem = await endpoint.waitForExit(stopSignal.stop);
    this.#thread.send({ type: "exited", problem });
  }
}

/**
 * What clients are told about the disk that stands for a stream.
 *
 * @param name the only export name; undefined admits every name
 */
export function exportInfo(name: string | undefined, plan: StreamPlan): ExportInfo {
  const common = { name, size: advertisedSize(endOf(plan)) };
  return plan.direction === "write"
    ? {
        ...common,
        flags: writeFlags(flushes(plan)),
        description: "a stream: write from the start to the end",
      }
    : { ...common, flags: READ_FLAGS, description: "a stream: read from the start to the end" };
}

/** True where the client may not have meant to leave. */
function isLoss(end: ConnectionEnd): boolean {
  return end !== "disconnected" && end !== "left-behind";
}
