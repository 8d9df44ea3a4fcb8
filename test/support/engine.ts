/** A fixture: the real engine over real descriptors, turned by hand so that a test sees every step. */
import { close } from "../../ffi/fd.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { WakeUp } from "../../ffi/poll.ts";
import { socketpair } from "../../ffi/socket.ts";
import type { Negotiated } from "../../src/protocol/export.ts";
import { Counters } from "../../src/stream/counters.ts";
import { Engine } from "../../src/stream/engine.ts";
import type { Command, StreamEvent, StreamStatus } from "../../src/stream/messages.ts";
import type { Stream } from "../../src/stream/stream.ts";
import { Peer } from "./peer.ts";
import { decode, type Decoder } from "./replies.ts";
import { tempFolder } from "./temp.ts";

/** Turns without any progress after which a wait fails. */
const IDLE_TURNS = 400;

/** What a stream is made with, whichever way it goes. */
export interface StreamParts {
  /** A FIFO. */
  readonly path: string;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

/** An engine and clients; the endpoint is for the classes that extend it. */
export abstract class EngineFixture implements Disposable {
  readonly counters = new Counters();
  readonly events: StreamEvent[] = [];
  readonly engine: Engine;
  readonly path: string;
  readonly #folder = tempFolder();
  readonly #wake = new WakeUp();
  readonly #commands: Command[] = [];
  readonly #peers = new Map<number, Peer>();
  #lastId = 0;
  #negotiated: Negotiated = { structured: false, extended: false, allocation: false };
  /** While true, nothing moves at the endpoint. */
  stalled = false;
  /** Called before every turn. */
  beforeTurn = () => {};

  /**
   * @param idleTimeout milliseconds that a client may stop for in the middle of a request
   * @param turnLimit milliseconds of that where one that came later waits
   */
  constructor(stream: (parts: StreamParts) => Stream, idleTimeout?: number, turnLimit?: number) {
    this.path = this.#folder.file("fifo");
    mkfifo(this.path, 0o600);
    const post = (event: StreamEvent) => this.events.push(event);
    this.engine = new Engine({
      stream: stream({ path: this.path, counters: this.counters, post }),
      idleTimeout,
      ...(turnLimit === undefined ? {} : { turnLimit }),
      wakeFd: this.#wake.fd,
      receive: () => {
        this.#wake.clear();
        return this.#commands.shift();
      },
      post,
    });
  }

  /** What the next clients have negotiated. */
  get negotiated(): Negotiated {
    return this.#negotiated;
  }

  /** What is not named is not negotiated; extended headers bring structured replies with them. */
  set negotiated({
    extended = false,
    structured = extended,
    allocation = false,
  }: Partial<Negotiated>) {
    this.#negotiated = { structured, extended, allocation };
  }

  command(command: Command): void {
    this.#commands.push(command);
    this.#wake.signal();
  }

  /** A new client. @param leftover what it sent while it negotiated */
  connect(leftover: Uint8Array = new Uint8Array(0)): Peer {
    const [near, far] = socketpair();
    const peer = new Peer(near);
    this.#peers.set(near, peer);
    const client = { fd: far, leftover, negotiated: this.negotiated };
    this.command({ type: "connection", id: ++this.#lastId, client });
    return peer;
  }

  /** The client is gone, all at once. */
  hangUp(peer: Peer): void {
    this.#peers.delete(peer.fd);
    close(peer.fd);
  }

  /** How far the stream is, and what its clients do. */
  status(): StreamStatus {
    const before = this.events.length;
    const told = () => this.events.slice(before).find((event) => event.type === "status");
    this.command({ type: "get-status" });
    this.until(() => told() !== undefined);
    return told() as StreamStatus;
  }

  /** How the clients' connections have ended so far, in order. */
  get ends(): string[] {
    return this.events.flatMap((event) => (event.type === "closed" ? [event.end] : []));
  }

  /** Why the stream is broken, if it is. */
  get broken(): string | undefined {
    const event = this.events.find((event) => event.type === "broken");
    return event?.failure.code;
  }

  /** The first event of a type. */
  event<T extends StreamEvent["type"]>(type: T): (StreamEvent & { type: T }) | undefined {
    return this.events.find((event): event is StreamEvent & { type: T } => event.type === type);
  }

  /** Turns the engine until `condition` holds. */
  until(condition: () => boolean): void {
    let idle = 0;
    while (!condition()) {
      if (!this.#step(idle > 0)) idle++;
      else idle = 0;
      if (idle > IDLE_TURNS) throw new Error("waited in vain");
    }
  }

  /** Takes apart what comes next for a client. @throws Error when its connection ends before that */
  take<T>(peer: Peer, decoder: Decoder<T>): T {
    return decode(decoder, (length) => {
      this.until(() => peer.available >= length || peer.finished);
      if (peer.available < length) throw new Error("the connection has ended in an answer");
      return peer.take(length);
    });
  }

  /** Turns the engine so often, whatever moves. */
  turns(number: number): void {
    for (let turn = 0; turn < number; turn++) this.#step(false);
  }

  /** Turns the engine until nothing moves any more. */
  settle(): void {
    for (let idle = 0; idle < 4; idle++) if (this.#step(idle > 0)) idle = 0;
  }

  /** @param wait nothing is known to be left to do */
  #step(wait: boolean): boolean {
    this.beforeTurn();
    const before = this.counters.emitted + this.events.length;
    if (!this.engine.over) this.engine.turn(wait ? 1 : 0);
    let moved = this.counters.emitted + this.events.length !== before;
    for (const peer of this.#peers.values()) if (peer.pump()) moved = true;
    if (!this.stalled && this.moveEndpoint()) moved = true;
    return moved;
  }

  /** Does what the program at the endpoint does. @returns true when anything moved */
  protected abstract moveEndpoint(): boolean;

  [Symbol.dispose](): void {
    this.command({ type: "abort" });
    while (!this.engine.over) this.engine.turn(0);
    for (const peer of this.#peers.values()) close(peer.fd);
    this.#wake.close();
    this.#folder[Symbol.dispose]();
  }
}
