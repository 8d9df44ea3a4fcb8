/** A listener and a stream thread, and all that is known about the stream while it runs. */
import { cleaningUp } from "../clean-up.ts";
import type { FarEnd } from "../endpoint/prepare/far-end.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Counters } from "../stream/counters.ts";
import type { Client } from "../stream/channel.ts";
import type {
  ConnectionEnd,
  Ended,
  ShortStream,
  Standing,
  StreamEvent,
  StreamPlan,
} from "../stream/messages.ts";
import { type Address, type Entrance, nbdUri } from "./address.ts";
import { Conditions } from "./conditions.ts";
import { exportInfo } from "./disk.ts";
import { type Facts, noFacts } from "./facts.ts";
import { Listener } from "./listener.ts";
import type { Log } from "./log.ts";
import type { Stage } from "./observer.ts";
import { OtherEnd } from "./other-end.ts";
import { Patience } from "./patience.ts";
import { type Negotiating, Reception } from "./reception.ts";
import { Repeats } from "./repeats.ts";
import { StreamThread } from "./stream-thread.ts";
import { type Summary, summarize, type Verdict } from "./summary.ts";
import { requiredCertificates, type Security } from "./tls.ts";

/** Milliseconds for the stream thread to tell what has happened; a client may keep it busy. */
const ECHO_LIMIT = 200;
/** Milliseconds for the event loop to accept those who are connected already. */
const ACCEPT_LIMIT = 200;

export interface ServiceOptions {
  readonly entrance: Entrance;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  readonly farEnd: FarEnd;
  readonly plan: StreamPlan;
  /** Seconds that a client whose connection is lost has to come back; undefined is none. */
  readonly reconnect: number | undefined;
  /** Seconds to wait for the other end of a FIFO; undefined is as long as it takes. */
  readonly openTimeout: number | undefined;
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => string | undefined;
  readonly security: Security;
  /** Seconds that negotiation may take. */
  readonly negotiationTimeout: number;
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
  /** Aborted when there is no time to wait any more. */
  readonly stop: AbortSignal;
  readonly workerUrl: URL;
  readonly log: Log;
}

/**
 * Runs the mechanism; what to do when is left to the caller, which waits for the facts that it
 * wants with {@link until} and ends with {@link finish} or {@link abort}, and then {@link close}.
 */
export class Service {
  readonly facts: Facts = noFacts();
  /** Where clients can connect; undefined where there is no more to say than that they can. */
  readonly address: Address | undefined;
  readonly #log: Log;
  readonly #refusals: Repeats;
  readonly #cuts: Repeats;
  readonly #reception: Reception;
  readonly #listener: Listener;
  readonly #thread: StreamThread;
  readonly #conditions = new Conditions();
  readonly #options: ServiceOptions;
  readonly #otherEnd: OtherEnd;
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
  readonly #patience: Patience;
  #end: Ended | undefined;
  #surplus: number | undefined;
  /** What the user was warned of that concerns the stream's bytes. */
  readonly #warnings: string[] = [];

  /** @throws UserError when the address is not to be had */
  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#log = options.log;
    const warn = (message: string) => options.log.warn(message);
    this.#refusals = new Repeats(warn, (count) => `${count} more connections were refused`);
    this.#cuts = new Repeats(warn, (count) => `${count} more clients were cut off`);
    const { security, negotiationTimeout, maxConnections, reconnect } = options;
    this.#reception = new Reception(
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
        onAbandon: () => (this.facts.abandoned = true),
        onClose: (reason, fault) => {
          if (fault) this.#refusals.warn(`a connection was refused: ${reason}`);
          else this.#log.verbose(reason);
          this.poke();
        },
      },
    );
    this.#listener = new Listener(options.entrance, this.#reception.handler);
    this.address = this.#listener.address;
    try {
      this.#thread = new StreamThread({
        workerUrl: options.workerUrl,
        plan: options.plan,
        onEvent: (event) => this.#heard(event),
        onCrash: (error) => {
          this.facts.crash ??= error;
          this.facts.ended = true;
          this.poke();
        },
      });
    } catch (error) {
      // No descriptor is left for it, for one.
      this.#stopListening();
      throw error;
    }
    this.#patience = new Patience(options.reconnect, this.facts, {
      warn: (message) => this.#log.warn(message),
      giveUp: async () => {
        this.#thread.send({ type: "give-up" });
        // What exactly is missing is for the stream thread to tell.
        await this.heardAll();
      },
      decided: () => this.poke(),
    });
    this.#otherEnd = new OtherEnd({
      direction: options.plan.direction,
      name: options.farEnd.name,
      timeout: options.openTimeout,
      log: options.log,
      onTimeout: (failure) => {
        this.facts.failure ??= failure;
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
    return this.#reception.visitors;
  }

  /** Who negotiates. @param visitors counts only the first so many that have ever come */
  negotiating(visitors?: number): Negotiating {
    return this.#reception.negotiating(visitors);
  }

  /** True when all bytes of the stream, up to its size, have moved. */
  get isThrough(): boolean {
    const { size } = this;
    return size !== undefined && this.counters.emitted >= size;
  }

  /** True when all clients that have come are gone, whether they got through negotiation or not. */
  get deserted(): boolean {
    return this.#reception.visitors > 0 && this.negotiating().count === 0 && this.#open === 0;
  }

  /** What the stream thread has told at its end; undefined before. */
  get end(): Ended | undefined {
    return this.#end;
  }

  get opened(): boolean {
    return !this.#opening;
  }

  get stage(): Stage {
    if (this.#finishing || this.facts.ended) return "ending";
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

  /** Has the conditions looked at again, after something that the service does not know of. */
  poke(): void {
    this.#conditions.poke();
  }

  /** Waits until those are let in, or are not, who are connected as far as the kernel is concerned. */
  async acceptAll(): Promise<void> {
    const deadline = performance.now() + ACCEPT_LIMIT;
    const isComing = () => this.#listener.hasWaiting || this.#reception.isAsked;
    while (this.#listening && isComing() && performance.now() < deadline) await Bun.sleep(1);
  }

  /** Where the stream and its clients stand; undefined where the stream thread does not tell now. */
  async look(): Promise<Standing | undefined> {
    let standing: Standing | undefined;
    this.#standing = (told) => {
      standing = told;
    };
    this.#thread.send({ type: "look" });
    await this.until(() => standing !== undefined || this.facts.ended, ECHO_LIMIT);
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
    await this.heardAll();
  }

  /** A client that was lost does not come back any more, if it is not back. */
  async giveUpLost(): Promise<void> {
    await this.#patience.giveUp();
  }

  /** Waits until everything that has happened up to now is in the facts, but not for long. */
  async heardAll(): Promise<void> {
    let heard = false;
    this.#echo = () => {
      heard = true;
    };
    this.#thread.send({ type: "echo" });
    await this.until(() => heard || this.facts.ended, ECHO_LIMIT);
  }

  /** Begins to end the stream well, without new clients; `facts.ended` tells when it has. */
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
        this.#patience.end();
      },
      () => this.#stopListening(),
      () => this.#thread.join(),
      // Those that the end of the stream has cut off have not been told of one by one.
      () => {
        for (const released of this.#released.values()) released();
      },
      () => this.#reception.farewell(this.#options.stop),
      () => {
        this.#refusals.end();
        this.#cuts.end();
      },
    );
  }

  #stopListening(): void {
    if (this.#listening) {
      this.#listener.close();
      this.#reception.close();
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
    });
  }

  #warn(text: string | undefined): void {
    if (text === undefined) return;
    this.#warnings.push(text);
    this.#log.warn(text);
  }

  #connected(client: Client, released: () => void): void {
    const id = this.#nextId++;
    this.#released.set(id, released);
    this.#open++;
    this.facts.connected = true;
    this.#started ??= performance.now();
    this.#log.verbose(`client ${id} connected`);
    this.#thread.send({ type: "connection", id, client });
  }

  #heard(event: StreamEvent): void {
    switch (event.type) {
      case "far-end-open":
        this.#opening = false;
        this.#otherEnd.settled();
        this.#log.verbose(`the ${this.#otherEnd.who} is there`);
        break;
      case "closed":
        this.#open--;
        this.#released.get(event.id)?.();
        this.#released.delete(event.id);
        this.facts.streamed ||= event.streamed;
        if (event.streamed && isLoss(event.end)) this.#patience.lost();
        this.facts.abandoned ||= event.end === "dropped" || event.end === "cut";
        this.#tellEnd(event.id, event.end);
        break;
      case "standing":
        this.#standing(event);
        break;
      case "room":
        this.#reception.answered();
        break;
      case "resumed":
        this.#patience.returned();
        break;
      case "broken":
        this.facts.failure ??= event.failure;
        break;
      case "refused":
        this.facts.refused ??= event;
        break;
      case "read-back":
        this.facts.readBack = event.text;
        break;
      case "begins":
        this.#warn(this.#options.doubts?.(event.bytes));
        break;
      case "source-ended":
        void this.#settle();
        break;
      case "surplus":
        this.#surplus = event.bytes;
        this.#warn(surplusText(this.#options, event.bytes, event.more));
        break;
      case "echo":
        this.#echo();
        break;
      case "ended":
        this.#end = event;
        this.facts.sourceEnded = event.sourceEnded;
        this.facts.ended = true;
    }
    this.poke();
  }

  #tellEnd(id: number, end: ConnectionEnd): void {
    const why = CUTS[end];
    if (why === undefined) this.#log.verbose(`client ${id} ended: ${end}`);
    else this.#cuts.warn(`client ${id} was cut off: ${why}`);
  }

  /** Asks what the source's process has come to; the stream thread waits for it. */
  async #settle(): Promise<void> {
    const { farEnd, stop } = this.#options;
    this.#thread.send({ type: "settled", problem: await farEnd.settle(stop) });
  }
}

/** True where the client may not have meant to leave. */
function isLoss(end: ConnectionEnd): boolean {
  return end !== "disconnected" && end !== "left-behind";
}

/** Why clients are cut off, where that is worth a warning. */
const CUTS: Partial<Record<ConnectionEnd, string>> = {
  garbage: "it does not speak NBD",
  stalled: "it has stopped in the middle of a request (--idle-timeout)",
  displaced: "it has moved nothing, and others need its place (--idle-timeout)",
};

function surplusText({ farEnd, plan }: ServiceOptions, bytes: number, more: boolean): string {
  const surplus = more ? `at least ${bytes}` : String(bytes);
  return `${farEnd.name} has ${surplus} bytes more than size=${plan.size}: is the size right?`;
}
