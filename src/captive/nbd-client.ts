/** A small NBD client (doc/proto.md), for the self-test, the demo and the size of an export. */
import { EventEmitter, once } from "node:events";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import {
  IHAVEOPT,
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_NO_ZEROES,
  NBD_OK,
  NBD_OPT_EXPORT_NAME,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_SIZE,
  NBDMAGIC,
} from "../protocol/constants.ts";
import { encodeRequest } from "../protocol/request.ts";

/** Milliseconds for an answer. */
const LIMIT = 10_000;

export interface NbdClientOptions {
  readonly exportName?: string;
  /** Aborts the waiting for answers. */
  readonly stop?: AbortSignal;
  /** The subject of error messages. */
  readonly server?: string;
}

/** A connection in the transmission phase. */
export class NbdClient implements Disposable {
  /** The export's size in bytes. */
  size = 0n;
  readonly #socket: Socket;
  readonly #server: string;
  readonly #stop: AbortSignal;
  readonly #events = new EventEmitter();
  #received = Buffer.alloc(0);
  #cookie = 0;
  readonly #unanswered = new Set<number>();

  private constructor(to: NetConnectOpts, stop: AbortSignal, server: string) {
    this.#stop = stop;
    this.#server = server;
    this.#socket = connect(to);
    this.#socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#events.emit("change");
    });
    this.#socket.on("error", (error) => this.#events.emit("error", error));
    this.#socket.on("close", () => this.#events.emit("change"));
    // An error between two answers does not end the program.
    this.#events.on("error", () => {});
  }

  /** Connects and negotiates. @throws Error when the server does not answer as it should */
  static async connect(
    to: NetConnectOpts,
    {
      exportName = "",
      stop = new AbortController().signal,
      server = "the server",
    }: NbdClientOptions = {},
  ): Promise<NbdClient> {
    const client = new NbdClient(to, stop, server);
    try {
      await client.#negotiate(Buffer.from(exportName));
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends a request; {@link awaitReplies} waits for its reply. */
  send(type: number, offset: number, length: number, payload?: Uint8Array): void {
    this.#unanswered.add(++this.#cookie);
    this.#socket.write(encodeRequest(type, offset, length, this.#cookie));
    if (payload !== undefined) this.#socket.write(payload);
  }

  /** Waits for the replies to all requests, and reads. @throws Error when a request has failed */
  async read(offset: number, length: number): Promise<Uint8Array> {
    await this.awaitReplies();
    this.send(NBD_CMD_READ, offset, length);
    await this.awaitReplies();
    return await this.#receive(length);
  }

  /** Waits for the replies to all requests. @throws Error when a request has failed */
  async awaitReplies(): Promise<void> {
    while (this.#unanswered.size > 0) {
      const reply = await this.#receive(NBD_SIMPLE_REPLY_SIZE);
      const [magic, error, , cookie] = [0, 4, 8, 12].map((at) => reply.readUInt32BE(at));
      if (magic !== NBD_SIMPLE_REPLY_MAGIC || !this.#unanswered.delete(cookie as number)) {
        throw new Error(`${this.#server}'s answer makes no sense: ${reply.toString("hex")}`);
      }
      if (error !== NBD_OK) throw new Error(`request ${cookie} has failed with error ${error}`);
    }
  }

  /** Sends NBD_CMD_DISC and closes the connection, even if the server keeps its side open. */
  leave(): void {
    this.#socket.end(encodeRequest(NBD_CMD_DISC, 0, 0, 0), () => this.#socket.destroy());
  }

  /** Sends NBD_CMD_DISC, and waits until the server has closed the connection. */
  async disconnect(): Promise<void> {
    this.#socket.write(encodeRequest(NBD_CMD_DISC, 0, 0, 0));
    if (!this.#socket.closed)
      await once(this.#socket, "close", { signal: AbortSignal.timeout(LIMIT) });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  /** Negotiates by the one option that every server has (NBD_OPT_EXPORT_NAME). */
  async #negotiate(exportName: Buffer): Promise<void> {
    const greeting = await this.#receive(18);
    if (greeting.readBigUInt64BE(0) !== NBDMAGIC || greeting.readBigUInt64BE(8) !== IHAVEOPT) {
      throw new Error(`${this.#server} does not negotiate as others do`);
    }
    const noZeroes = (greeting.readUInt16BE(16) & NBD_FLAG_NO_ZEROES) !== 0;
    const option = Buffer.alloc(4 + 16);
    option.writeUInt32BE(NBD_FLAG_C_FIXED_NEWSTYLE | (noZeroes ? NBD_FLAG_C_NO_ZEROES : 0), 0);
    option.writeBigUInt64BE(IHAVEOPT, 4);
    option.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
    option.writeUInt32BE(exportName.length, 16);
    this.#socket.write(Buffer.concat([option, exportName]));
    // Older servers send 124 zeroes behind the size and the flags.
    this.size = (await this.#receive(noZeroes ? 10 : 10 + 124)).readBigUInt64BE(0);
  }

  /** The next `length` bytes. @throws Error when they do not come */
  async #receive(length: number): Promise<Buffer> {
    const limit = AbortSignal.any([this.#stop, AbortSignal.timeout(LIMIT)]);
    while (this.#received.length < length) {
      if (this.#socket.closed) throw new Error(`${this.#server} has closed the connection`);
      await once(this.#events, "change", { signal: limit }).catch((error: unknown) => {
        throw limit.aborted ? new Error(`${this.#server} does not answer`) : error;
      });
    }
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }
}
