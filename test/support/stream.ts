/** The real engine over real descriptors, turned by hand so that a test sees every step. */
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { close, open, read } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { WakeUp } from "../../ffi/poll.ts";
import { recv, send, shutdownWrite, socketpair } from "../../ffi/socket.ts";
import { FifoSink } from "../../src/endpoint/sink/fifo-sink.ts";
import { type Negotiated, UNBOUNDED_SIZE } from "../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../src/protocol/offset.ts";
import { Counters } from "../../src/stream/counters.ts";
import { Engine } from "../../src/stream/engine.ts";
import type { Command, StreamEvent } from "../../src/stream/messages.ts";
import { WriteFlow } from "../../src/stream/write/write-flow.ts";
import type { Reply } from "./nbd-client.ts";
import { tempFolder } from "./temp.ts";

/** Turns without any progress after which a test has waited in vain. */
const IDLE_TURNS = 400;

const scratch = new Memory(1 << 20);

/** The client's end of a connection to the engine. */
export class Peer {
  #unsent = Buffer.alloc(0);
  #received = Buffer.alloc(0);
  /** The engine has closed the connection. */
  finished = false;

  constructor(readonly fd: number) {}

  /** Queues bytes; they leave as the socket takes them. */
  send(...parts: Uint8Array[]): this {
    this.#unsent = Buffer.concat([this.#unsent, ...parts]);
    return this;
  }

  /** Bytes that came and were not taken yet. */
  get available(): number {
    return this.#received.length;
  }

  get allSent(): boolean {
    return this.#unsent.length === 0;
  }

  take(length: number): Buffer {
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** All complete replies so far; only for tests without READ. */
  takeReplies(): Reply[] {
    const replies: Reply[] = [];
    while (this.available >= 16) {
      const bytes = this.take(16);
      replies.push({ error: bytes.readUInt32BE(4), cookie: bytes.readBigUInt64BE(8) });
    }
    return replies;
  }

  /** Says that nothing more will come, but still listens. */
  halfClose(): void {
    shutdownWrite(this.fd);
  }

  /** @returns true when anything moved */
  pump(): boolean {
    let moved = false;
    if (this.#unsent.length > 0 && !this.finished) {
      const part = new Memory(Buffer.from(this.#unsent.subarray(0, 1 << 18)));
      const n = send(this.fd, part.at(0), part.length);
      if (n > 0) {
        this.#unsent = this.#unsent.subarray(n);
        moved = true;
      }
    }
    const n = this.finished ? WOULD_BLOCK : recv(this.fd, scratch.at(0), scratch.length);
    if (n > 0) {
      this.#received = Buffer.concat([this.#received, scratch.bytes.subarray(0, n)]);
      moved = true;
    } else if (n === 0) {
      this.finished = true;
      moved = true;
    }
    return moved;
  }
}

export interface StreamOptions {
  readonly size?: Offset;
  /** False leaves the FIFO without a reader until {@link StreamFixture.openReader}. */
  readonly reader?: boolean;
  readonly window?: number;
  readonly reconnect?: boolean;
}

/** An engine, its FIFO with a reader, and clients. */
export class StreamFixture implements Disposable {
  readonly counters = new Counters();
  readonly events: StreamEvent[] = [];
  readonly engine: Engine;
  readonly path: string;
  readonly #folder = tempFolder();
  readonly #wake = new WakeUp();
  readonly #commands: Command[] = [];
  readonly #peers = new Map<number, Peer>();
  #output: Buffer[] = [];
  #reader = -1;
  /** What the next clients have negotiated. */
  negotiated: Negotiated = { structured: false, allocation: false };
  /** While true, nothing is read from the FIFO. */
  stalled = false;
  /** The reader has seen end of file. */
  sawEnd = false;

  constructor({
    size = toOffset(UNBOUNDED_SIZE),
    reader = true,
    window = 0,
    reconnect = false,
  }: StreamOptions = {}) {
    this.path = this.#folder.file("fifo");
    mkfifo(this.path, 0o600);
    this.engine = new Engine({
      flow: new WriteFlow({
        sink: new FifoSink(this.path),
        size,
        window,
        reconnect,
        counters: this.counters,
        post: (event) => this.events.push(event),
      }),
      idleTimeout: undefined,
      wake: this.#wake,
      receive: () => this.#commands.shift(),
      post: (event) => this.events.push(event),
    });
    if (reader) {
      this.openReader();
      this.engine.turn(0);
    }
  }

  openReader(): void {
    this.#reader = open(this.path, O_RDONLY | O_NONBLOCK);
  }

  closeReader(): void {
    close(this.#reader);
    this.#reader = -1;
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
    this.command({ type: "connection", id: near, client });
    return peer;
  }

  /** The client is gone, all at once. */
  hangUp(peer: Peer): void {
    this.#peers.delete(peer.fd);
    close(peer.fd);
  }

  /** Everything that has come out of the stream. */
  get output(): Buffer {
    this.#output = [Buffer.concat(this.#output)];
    return this.#output[0] as Buffer;
  }

  /** How the clients' connections have ended so far, in order. */
  get ends(): string[] {
    return this.events.flatMap((event) => (event.type === "closed" ? [event.end] : []));
  }

  /** Turns the engine until `condition` holds. */
  until(condition: () => boolean): void {
    let idle = 0;
    while (!condition()) {
      if (!this.#step()) idle++;
      else idle = 0;
      if (idle > IDLE_TURNS) throw new Error("waited in vain");
    }
  }

  /** Turns the engine until nothing moves any more. */
  settle(): void {
    for (let idle = 0; idle < 3; idle++) if (this.#step()) idle = 0;
  }

  #step(): boolean {
    const before = this.counters.emitted + this.events.length;
    if (!this.engine.over) this.engine.turn(1);
    let moved = this.counters.emitted + this.events.length !== before;
    for (const peer of this.#peers.values()) if (peer.pump()) moved = true;
    if (this.#reader >= 0 && !this.stalled && !this.sawEnd && this.#read()) moved = true;
    return moved;
  }

  #read(): boolean {
    const n = read(this.#reader, scratch.at(0), scratch.length);
    if (n > 0) this.#output.push(Buffer.from(scratch.bytes.subarray(0, n)));
    // Without a writer a FIFO reads as ended; it has only ended once the engine has.
    if (n === 0 && this.engine.over) this.sawEnd = true;
    return n > 0;
  }

  [Symbol.dispose](): void {
    if (!this.engine.over) {
      this.command({ type: "abort" });
      this.engine.turn(0);
    }
    for (const peer of this.#peers.values()) close(peer.fd);
    if (this.#reader >= 0) close(this.#reader);
    this.#wake.close();
    this.#folder[Symbol.dispose]();
  }
}
