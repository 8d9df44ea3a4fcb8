/** A listener and a stream thread, and all that is known about the stream while it runs. */
import type { ChecksumAlgorithm } from "../endpoint/checksum-sink.ts";
import type { SinkSpec } from "../endpoint/spec.ts";
import { advertisedSize, WRITE_FLAGS } from "../protocol/export.ts";
import { toOffset } from "../protocol/offset.ts";
import type { Counters } from "../stream/counters.ts";
import { noReader } from "../stream/failure.ts";
import type { ShortStream, StreamEvent } from "../stream/messages.ts";
import type { Address } from "./address.ts";
import type { Facts } from "./facts.ts";
import { Listener } from "./listener.ts";
import type { Log } from "./log.ts";
import { StreamThread } from "./stream-thread.ts";
import type { Summary, Verdict } from "./summary.ts";

/** Milliseconds without a reader after which the user is told that there is none. */
const READER_NOTICE = 1000;

/** Milliseconds for the stream thread to tell what has happened; a client may keep it busy. */
const ECHO_LIMIT = 200;

export interface ServiceOptions {
  readonly address: Address;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  readonly sink: SinkSpec;
  /** For messages: what the user called the sink. */
  readonly sinkName: string;
  /** The stream's length in bytes. */
  readonly size: bigint;
  /** Bytes that may be held in memory ahead of their turn; 0 is none. */
  readonly window: number;
  /** The checksum to compute of what is emitted. */
  readonly checksum: ChecksumAlgorithm | undefined;
  /** Seconds that a client whose connection is lost has to come back; undefined is none. */
  readonly reconnect: number | undefined;
  /** Seconds to wait for a reader; undefined is as long as it takes. */
  readonly readerTimeout: number | undefined;
  readonly workerUrl: URL;
  readonly log: Log;
}

/**
 * Runs the mechanism; what to do when is left to the caller, which waits for the facts that it
 * wants with {@link until} and ends with {@link finish} or {@link abort}, and then {@link close}.
 */
export class Service {
  readonly facts: Facts = {
    failure: undefined,
    crash: undefined,
    refused: undefined,
    readBack: undefined,
    connected: false,
    wrote: false,
    dropped: false,
    awaited: false,
    leftBehind: false,
    ended: false,
  };
  readonly address: Address;
  readonly #log: Log;
  readonly #listener: Listener;
  readonly #thread: StreamThread;
  readonly #waiters = new Set<() => void>();
  readonly #readerTimers: ReturnType<typeof setTimeout>[];
  /** When the first client came, by performance.now(). */
  #started: number | undefined;
  #open = 0;
  #nextId = 1;
  #listening = true;
  #echo = () => {};
  readonly #window: number;
  readonly #reconnect: number | undefined;
  #returnTimer: ReturnType<typeof setTimeout> | undefined;
  #windowNeeded = 0;
  readonly #checksum: ChecksumAlgorithm | undefined;
  #digest: string | undefined;

  /** @throws UserError when the address is not to be had */
  constructor(options: ServiceOptions) {
    this.#log = options.log;
    const info = {
      name: options.exportName,
      size: advertisedSize(toOffset(options.size)),
      flags: WRITE_FLAGS,
      description: "a stream: write from the start to the end",
    };
    this.#listener = new Listener(options.address, info, {
      onTransmission: (fd, leftover) => this.#connected(fd, leftover),
      onClose: (reason, fault) => {
        if (fault) this.#log.warn(`a connection was refused: ${reason}`);
        else this.#log.verbose(reason);
      },
    });
    this.address = this.#listener.address;
    this.#thread = new StreamThread({
      workerUrl: options.workerUrl,
      sink: options.sink,
      size: options.size,
      window: options.window,
      reconnect: options.reconnect !== undefined,
      checksum: options.checksum,
      onEvent: (event) => this.#heard(event),
      onCrash: (error) => {
        this.facts.crash ??= error;
        this.facts.ended = true;
        this.poke();
      },
    });
    this.#readerTimers = this.#awaitReader(options);
    this.#window = options.window;
    this.#reconnect = options.reconnect;
    this.#checksum = options.checksum;
  }

  #awaitReader({ sinkName, readerTimeout, log }: ServiceOptions): ReturnType<typeof setTimeout>[] {
    const notice = setTimeout(() => log.info(`waiting for a reader of ${sinkName}`), READER_NOTICE);
    if (readerTimeout === undefined) return [notice];
    const giveUp = () => {
      this.facts.failure ??= noReader(sinkName, readerTimeout);
      this.poke();
    };
    return [notice, setTimeout(giveUp, readerTimeout * 1000)];
  }

  #readerIsThere(): void {
    for (const timer of this.#readerTimers) clearTimeout(timer);
  }

  /** Clients in the transmission phase. */
  get open(): number {
    return this.#open;
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
    return new Promise((resolve) => {
      let late = false;
      const look = () => {
        if (!late && !condition()) return;
        this.#waiters.delete(look);
        clearTimeout(timer);
        resolve();
      };
      const expire = () => {
        late = true;
        look();
      };
      const timer = timeout === undefined ? undefined : setTimeout(expire, timeout);
      this.#waiters.add(look);
      look();
    });
  }

  /** Has the conditions looked at again, after something that the service does not know of. */
  poke(): void {
    for (const look of [...this.#waiters]) look();
  }

  /** No new clients; those that are there and stay silent for `idle` milliseconds are cut off. */
  lastWords(idle: number): void {
    this.#stopListening();
    this.#thread.send({ type: "last-words", idle });
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
    this.#thread.send({ type: "finish", short });
  }

  /** Ends the stream where it stands. */
  abort(): void {
    this.#thread.send({ type: "abort" });
  }

  /** Stops listening and waits until the stream thread is gone; the stream must have been ended. */
  async close(): Promise<void> {
    this.#readerIsThere();
    clearTimeout(this.#returnTimer);
    this.#stopListening();
    await this.#thread.join();
  }

  /** Nobody has come back in time. */
  async #giveUp(): Promise<void> {
    this.#thread.send({ type: "give-up" });
    // What exactly is missing is for the stream thread to tell.
    await this.heardAll();
    if (!this.facts.awaited) return;
    this.facts.awaited = false;
    this.facts.dropped = true;
    this.poke();
  }

  #stopListening(): void {
    if (this.#listening) this.#listener.close();
    this.#listening = false;
  }

  /** What there is to tell about the stream at its end. */
  summary({ why }: Verdict): Summary {
    const { data, zeroes, emitted } = this.counters;
    const seconds = this.#started === undefined ? 0 : (performance.now() - this.#started) / 1000;
    return {
      complete: why === undefined,
      reason: why ?? null,
      bytes: emitted,
      data,
      zeroes,
      seconds,
      checksum:
        this.#checksum === undefined || this.#digest === undefined
          ? null
          : { algorithm: this.#checksum, digest: this.#digest },
      window: this.#window === 0 ? null : { size: this.#window, needed: this.#windowNeeded },
      bytesPerSecond: seconds > 0 ? Math.round(emitted / seconds) : 0,
    };
  }

  #connected(fd: number, leftover: Uint8Array): void {
    const id = this.#nextId++;
    this.#open++;
    this.facts.connected = true;
    this.#started ??= performance.now();
    this.#log.verbose(`client ${id} connected`);
    this.#thread.send({ type: "connection", id, fd, leftover });
  }

  #heard(event: StreamEvent): void {
    switch (event.type) {
      case "sink-open":
        this.#readerIsThere();
        this.#log.verbose("the reader is there");
        break;
      case "closed":
        this.#open--;
        this.facts.wrote ||= event.wrote;
        if (event.wrote && event.end !== "disconnected") this.#lost(event.succeeded);
        this.facts.leftBehind ||= event.end === "left-behind";
        if (event.end === "garbage") {
          this.#log.warn(`client ${event.id} was cut off: it does not speak NBD`);
        } else {
          this.#log.verbose(`client ${event.id} ended: ${event.end}`);
        }
        break;
      case "resumed":
        this.facts.awaited = false;
        clearTimeout(this.#returnTimer);
        break;
      case "broken":
        this.facts.failure ??= event.failure;
        break;
      case "refused":
        this.facts.refused ??= event;
        break;
      case "read-back":
        this.facts.readBack = event.request;
        break;
      case "echo":
        this.#echo();
        break;
      case "ended":
        this.#windowNeeded = event.windowNeeded;
        this.#digest = event.checksum;
        this.facts.ended = true;
    }
    this.poke();
  }

  /** A client that sent data has left without a word. @param succeeded it is back already */
  #lost(succeeded: boolean): void {
    const seconds = this.#reconnect;
    if (seconds === undefined) {
      this.facts.dropped = true;
      return;
    }
    if (succeeded) return;
    this.#log.warn(`a client was lost; it has ${seconds} s to come back`);
    this.facts.awaited = true;
    clearTimeout(this.#returnTimer);
    this.#returnTimer = setTimeout(() => void this.#giveUp(), seconds * 1000);
  }
}
