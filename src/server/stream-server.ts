/** One stream: its export, the stream thread, and its state while it runs. */
import { close } from "../../ffi/fd.ts";
import { cleaningUp } from "../clean-up.ts";
import type { EndpointControl } from "../endpoint/opening/endpoint.ts";
import type { Direction, EndpointHandle } from "../endpoint/spec.ts";
import type { Failure, Notice } from "../messages/notice.ts";
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
import {
  advertisedSize,
  type ExportInfo,
  holdFlags,
  READ_FLAGS,
  writeFlags,
} from "../protocol/export.ts";
import { NBD_ESHUTDOWN } from "../protocol/constants.ts";
import { Condition } from "./condition.ts";
import { type StreamState, initialState } from "./stream-state.ts";
import type { Log } from "../log.ts";
import type { Phase, Stage } from "./observer.ts";
import type { Verdict } from "./exit-status.ts";
import type { NbdServer, StreamExport } from "./nbd-server.ts";
import { OpenTimer, ReconnectTimer } from "./timers.ts";
import type { Negotiating } from "../net/connection-manager.ts";
import type { HostOptions } from "./settings.ts";
import { StreamClients } from "./stream-clients.ts";
import { StreamThread } from "./stream-thread.ts";
import { type Summary, summarize } from "./summary.ts";

export interface StreamServerOptions extends HostOptions {
  readonly endpoint: EndpointControl;
  readonly plan: StreamPlan;
  /** Where its clients come in. */
  readonly nbd: NbdServer;
}

/** A client that comes when the others are done: it fails the stream, or finds no server. */
type LateClient = "fails" | "refused";

/**
 * Takes clients and keeps the state up to date. The caller decides when the stream ends: it waits for a
 * state with {@link until}, ends the stream with {@link finish} or {@link abort}, and then calls
 * {@link close}.
 */
export class StreamServer implements StreamExport {
  readonly state: StreamState = initialState();
  readonly info: ExportInfo;
  readonly #log: Log;
  readonly #nbd: NbdServer;
  readonly #thread: StreamThread;
  readonly #conditions = new Condition();
  readonly #options: StreamServerOptions;
  readonly #openTimer: OpenTimer;
  /** When the first client came, by performance.now(). */
  #started: number | undefined;
  /** The endpoint is open, or comes when the clients are done. */
  opened: boolean;
  /** When the clients of a stream that is held were done, by performance.now(), and its length from then on. */
  #streaming: { readonly since: number; readonly length: bigint } | undefined;
  /** The last event of the stream thread; undefined before. */
  end: Ended | undefined;
  readonly #clients: StreamClients;
  #finishing = false;
  /** What a client does that comes now; undefined as long as clients may come. */
  #late: LateClient | undefined;
  #givenUp = false;
  readonly #reconnectTimer: ReconnectTimer;
  #surplus: number | undefined;
  /** Warnings that concern the stream's bytes, for the summary. */
  readonly #warnings: Notice[] = [];

  /** @throws SyscallError without a free descriptor */
  constructor(options: StreamServerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clients = new StreamClients(options.log);
    this.info = exportInfo(options.exportName, options.plan);
    this.#nbd = options.nbd;
    this.#thread = new StreamThread({
      workerUrl: options.workerUrl,
      plan: options.plan,
      stays: options.exits === true,
      onEvent: (event) => this.#heard(event),
      onCrash: (error) => {
        this.state.crash ??= error;
        this.state.ended = true;
        this.poke();
      },
    });
    this.#reconnectTimer = new ReconnectTimer(options.reconnect, this.state, {
      warn: (message) => options.log.warn(message),
      giveUp: async () => {
        this.#thread.send({ type: "end-reconnect" });
        // The stream thread posts what exactly is missing.
        await this.sync();
      },
      decided: () => this.poke(),
    });
    // A sink that comes later is not waited for.
    this.opened = options.plan.endpoint === undefined;
    this.#openTimer = new OpenTimer({
      direction: options.plan.direction,
      name: options.endpoint.name,
      timeout: options.openTimeout,
      log: options.log,
      sync: () => this.sync(),
      onTimeout: (failure) => {
        this.state.failure ??= failure;
        this.poke();
      },
    });
    // Who has the other end of anything else is there already, or is not waited for.
    if (options.plan.endpoint?.kind !== "fifo") this.#openTimer.end();
    this.#nbd.add(this);
  }

  get reconnect(): number | undefined {
    return this.#options.reconnect;
  }

  /** Clients in the transmission phase. */
  get open(): number {
    return this.#clients.count;
  }

  /** When a client has left last, and one that had moved the stream, by performance.now(). */
  get departures(): { readonly last: number; readonly lastMover: number } {
    return { last: this.#clients.lastLeft, lastMover: this.#clients.lastMoverLeft };
  }

  /** The stream's length in bytes; undefined is without end. */
  get size(): bigint | undefined {
    return this.#options.plan.size;
  }

  /** Connections accepted so far, of all streams. */
  get accepted(): number {
    return this.#nbd.accepted;
  }

  /** Clients that negotiate, and may be this stream's. @param accepted counts only so many, the first ones */
  negotiating(accepted?: number): Negotiating {
    return this.#nbd.negotiating(this.info, accepted);
  }

  /** True when the stream thread has died before it had taken the descriptors of its plan. */
  get stillborn(): boolean {
    return this.state.crash !== undefined && !this.#thread.begun;
  }

  /** True when the stream has moved up to its size. */
  get isThrough(): boolean {
    const { size } = this;
    return size !== undefined && this.counters.emitted >= size;
  }

  /** True when clients have connected, and all are gone, even those that only negotiated. */
  get deserted(): boolean {
    return this.accepted > 0 && this.negotiating().count === 0 && this.open === 0;
  }

  get direction(): Direction {
    return this.#options.plan.direction;
  }

  /** The {@link size}, or the length that a stream without a size, or without padding, turns out to have. */
  get length(): bigint | undefined {
    return this.#streaming?.length ?? this.size;
  }

  get phase(): Phase | undefined {
    const { hold, dryRun } = this.#options.plan;
    if (!hold || dryRun === true) return undefined;
    return this.#streaming === undefined ? "holding" : "streaming";
  }

  get stage(): Stage {
    if (this.state.ended) return "ending";
    switch (this.phase) {
      case "holding":
        // Its clients need no sink.
        return this.#clientStage;
      case "streaming":
        return this.opened ? "ending" : "opening";
      case undefined:
        if (this.#finishing) return "ending";
        return this.opened ? this.#clientStage : "opening";
    }
  }

  get #clientStage(): Stage {
    return this.open === 0 && !this.state.filled ? "deserted" : "running";
  }

  /** Where clients of this machine can connect; undefined where the server has no address. */
  get uri(): string | undefined {
    return this.#nbd.uri(this.#options.exportName);
  }

  /** Seconds since the first client came; 0 before. */
  get elapsed(): number {
    return this.#started === undefined ? 0 : (performance.now() - this.#started) / 1000;
  }

  get phaseElapsed(): number {
    if (this.#streaming === undefined) return this.elapsed;
    return (performance.now() - this.#streaming.since) / 1000;
  }

  get counters(): Counters {
    return this.#thread.counters;
  }

  /**
   * Resolves as soon as `condition` holds; checks it after every event.
   *
   * @param timeout milliseconds after which it resolves anyway
   */
  until(condition: () => boolean, timeout?: number): Promise<void> {
    return this.#conditions.until(condition, timeout);
  }

  /** Checks the conditions again, after an event outside of the server. */
  poke(): void {
    this.#conditions.poke();
  }

  /**
   * What the captive command has written into the disk as a file.
   *
   * @param length of the file @param room that it takes on the disk; both in bytes
   */
  filled(length: bigint, room: number): void {
    const { state, counters } = this;
    // The stream thread may have closed the file.
    if (state.ended) return;
    const grown = Math.max(0, room - counters.spooled);
    counters.spooled = room;
    // What a client writes gets into the file, too, and the stream thread counts that.
    state.filled = length > 0n && !state.connected;
    if (!state.filled) return;
    counters.addStored(grown);
    this.#started ??= performance.now();
  }

  /** Waits until every connection in the kernel's queue is accepted, or refused. */
  acceptAll(): Promise<void> {
    return this.#nbd.acceptAll();
  }

  /** The state of the stream and its clients; undefined if the stream thread does not answer in time. */
  status(): Promise<StreamStatus | undefined> {
    return this.#thread.status();
  }

  /**
   * Accepts no new clients, ends the connections of clients that are not waited for any more, and waits for
   * the events of that.
   *
   * @param whom all clients, or those that have moved nothing and would have to send something next
   */
  async dismiss(whom: "all" | "silent"): Promise<void> {
    this.#nbd.remove(this.info);
    await this.dismissOnly(whom);
  }

  /** The same, but others may still come. */
  async dismissOnly(whom: "all" | "silent"): Promise<void> {
    this.#thread.send({ type: "dismiss", whom });
    await this.sync();
  }

  /** Another stream has failed, and this one is not to go on without it. */
  giveUp(exportName: string): void {
    this.#giveUp({ code: "OTHER_FAILED", exportName, ...this.#emitted });
  }

  /** The clients are done with a stream that was held, which may be on its way soon: nobody may change it. */
  closeToClients(late: LateClient): void {
    this.#late = late;
    if (late === "refused") this.#nbd.remove(this.info);
    if (this.open > 0) this.#giveUp({ code: "CLIENT_LATE", ...this.#emitted });
  }

  get #emitted() {
    return { emitted: this.counters.emitted, errno: NBD_ESHUTDOWN };
  }

  #giveUp(failure: Failure): void {
    this.#givenUp ||= this.state.failure === undefined;
    this.state.failure ??= failure;
    this.poke();
  }

  /** True where the stream is broken by what its thread does not know of. */
  get isGivenUp(): boolean {
    return this.#givenUp;
  }

  /** Gives up a client that was lost and has not come back. */
  async giveUpLost(): Promise<void> {
    await this.#reconnectTimer.giveUp();
  }

  /** Waits a short time until everything that has happened up to now is in the state. */
  sync(): Promise<void> {
    return this.#thread.sync();
  }

  /** The clients of a stream that is held are done. @param length in bytes, of what is streamed now */
  #beginStreaming(length: bigint): void {
    this.#log.verbose(`the clients are done: ${length} bytes are streamed now`);
    this.#streaming = { since: performance.now(), length };
    // From now on the sink is waited for.
    if (this.#options.plan.endpoint === undefined) this.opened = false;
  }

  /** The sink of a stream that was held is there. */
  sinkOpened(endpoint: EndpointHandle): void {
    this.#thread.send({ type: "sink", endpoint });
  }

  /**
   * Begins to complete the stream, without new clients; then `state.ended` becomes true. If clients could fail
   * it, `state.atEnd` does before that, and then {@link confirmEnd} is to be called.
   */
  finish(short: ShortStream): void {
    const asks = this.#late === "fails";
    if (!asks) this.#nbd.remove(this.info);
    this.#finishing = true;
    this.#thread.send({ type: "finish", short, asks });
  }

  /** Lets the reader of a stream that was held see its end. Clients find no server from now on. */
  confirmEnd(): void {
    this.#nbd.remove(this.info);
    this.#thread.send({ type: "end" });
  }

  /** Ends the stream at once, as truncated. */
  abort(): void {
    this.#thread.send({ type: "abort" });
  }

  /** Stops listening and waits until the stream thread is gone; the stream must have been ended. */
  async close(): Promise<void> {
    await cleaningUp(
      () => {
        this.#openTimer.end();
        this.#reconnectTimer.end();
      },
      () => this.#nbd.remove(this.info),
      () => this.#thread.join(),
      () => this.#clients.releaseAll(),
      () => this.#nbd.flushTls(this.info, this.#options.stopSignal.stop),
      () => this.#clients.end(),
    );
  }

  summary(verdict: Verdict): Summary {
    return summarize(verdict, {
      plan: this.#options.plan,
      counters: this.counters,
      seconds: this.elapsed,
      end: this.end,
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

  connected(client: NegotiatedConnection, released: () => void): void {
    if (this.state.ended || this.#late !== undefined) {
      close(client.fd);
      released();
      if (!this.state.ended) this.#giveUp({ code: "CLIENT_LATE", ...this.#emitted });
      return;
    }
    const id = this.#clients.add(released);
    this.state.connected = true;
    this.#started ??= performance.now();
    this.#thread.send({ type: "connection", id, client });
    this.poke();
  }

  /** Its data, even what it sent right behind the option, is in no stream. */
  abandoned(): void {
    this.state.abandoned = true;
  }

  evictIdle(): Promise<boolean> {
    return this.#thread.evictIdle();
  }

  #heard(event: StreamEvent): void {
    switch (event.type) {
      case "endpoint-open":
        this.opened = true;
        this.#openTimer.end();
        this.#log.verbose(`the ${this.#openTimer.who} is there`);
        break;
      case "closed":
        this.#clients.left(event);
        this.state.streamed ||= event.streamed;
        if (event.streamed && isLoss(event.end)) this.#reconnectTimer.lost();
        this.state.abandoned ||= event.end === "dropped" || event.end === "cut";
        break;
      case "at-end":
        this.state.atEnd = true;
        break;
      case "streaming":
        this.#beginStreaming(BigInt(event.length));
        break;
      case "resumed":
        this.#reconnectTimer.returned();
        break;
      case "broken":
        this.state.failure ??= event.failure;
        break;
      case "refused":
        this.state.refused ??= { ...event, held: this.#options.hold };
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
        this.end = event;
        this.state.sourceEnded = event.sourceEnded;
        this.state.ended = true;
    }
    this.poke();
  }

  /** Sends the exit of the source's process, which the stream thread waits for. */
  async #sendExit(): Promise<void> {
    const { endpoint, stopSignal } = this.#options;
    const problem = await endpoint.waitForExit(stopSignal.stop);
    this.#thread.send({ type: "exited", problem });
  }
}

/** The export that stands for a stream. @param name the only export name; undefined accepts every name */
export function exportInfo(name: string | undefined, plan: StreamPlan): ExportInfo {
  const common = { name, size: advertisedSize(endOf(plan)) };
  if (plan.direction === "read") {
    const description = "a stream: read from the start to the end";
    return { ...common, flags: READ_FLAGS, description };
  }
  if (plan.hold) {
    const flags = holdFlags(plan.spool?.punches === true, plan.reconnect !== undefined);
    return { ...common, flags, description: "a disk that is streamed when its clients are done" };
  }
  const description =
    plan.spool === undefined
      ? "a stream: write from the start to the end"
      : "a stream: write each part once, in any order";
  return { ...common, flags: writeFlags(flushes(plan)), description };
}

/** True where the client may have lost its connection. */
function isLoss(end: ConnectionEnd): boolean {
  return end !== "disconnected" && end !== "left-behind";
}
