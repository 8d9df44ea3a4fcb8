/** A small NBD client for the self-test and the demo: it needs no other program. */
import { EventEmitter, once } from "node:events";
import { connect, type Socket } from "node:net";
import {
  IHAVEOPT,
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_OK,
  NBD_OPT_EXPORT_NAME,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_SIZE,
  NBDMAGIC,
} from "../protocol/constants.ts";
import { encodeRequest } from "../protocol/request.ts";

/** Milliseconds for an answer. */
const LIMIT = 10_000;

/** One connection, in the transmission phase (doc/proto.md). */
export class SelfTestClient implements Disposable {
  /** The disk's size as the server tells it, in bytes. */
  size = 0n;
  readonly #socket: Socket;
  readonly #events = new EventEmitter();
  #received = Buffer.alloc(0);
  #cookie = 0;
  /** Requests that have not been answered. */
  readonly #unanswered = new Set<number>();

  private constructor(path: string) {
    this.#socket = connect(path);
    this.#socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#events.emit("change");
    });
    this.#socket.on("error", (error) => this.#events.emit("error", error));
    this.#socket.on("close", () => this.#events.emit("change"));
    // Where nobody waits for an answer, nobody needs to know.
    this.#events.on("error", () => {});
  }

  /**
   * Connects to a Unix socket and negotiates for the default export.
   *
   * @throws Error when the server does not answer as it should
   */
  static async connect(path: string): Promise<SelfTestClient> {
    const client = new SelfTestClient(path);
    try {
      await client.#negotiate();
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends a request; {@link settle} waits for the answer. */
  send(type: number, offset: number, length: number, payload?: Uint8Array): void {
    this.#unanswered.add(++this.#cookie);
    this.#socket.write(encodeRequest(type, offset, length, this.#cookie));
    if (payload !== undefined) this.#socket.write(payload);
  }

  /** Reads, when all else is answered. @throws Error when a request has failed */
  async read(offset: number, length: number): Promise<Uint8Array> {
    await this.settle();
    this.send(NBD_CMD_READ, offset, length);
    await this.settle();
    return await this.#receive(length);
  }

  /** Waits until all is answered. @throws Error when a request has failed */
  async settle(): Promise<void> {
    while (this.#unanswered.size > 0) {
      const reply = await this.#receive(NBD_SIMPLE_REPLY_SIZE);
      const [magic, error, , cookie] = [0, 4, 8, 12].map((at) => reply.readUInt32BE(at));
      if (magic !== NBD_SIMPLE_REPLY_MAGIC || !this.#unanswered.delete(cookie as number)) {
        throw new Error(`the server's answer makes no sense: ${reply.toString("hex")}`);
      }
      if (error !== NBD_OK) throw new Error(`request ${cookie} has failed with error ${error}`);
    }
  }

  /** Leaves as clients should (NBD_CMD_DISC), and waits until the server has closed the connection. */
  async disconnect(): Promise<void> {
    this.#socket.write(encodeRequest(NBD_CMD_DISC, 0, 0, 0));
    if (!this.#socket.closed)
      await once(this.#socket, "close", { signal: AbortSignal.timeout(LIMIT) });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  /** By the option that every server has (NBD_OPT_EXPORT_NAME). */
  async #negotiate(): Promise<void> {
    const greeting = await this.#receive(18);
    if (greeting.readBigUInt64BE(0) !== NBDMAGIC || greeting.readBigUInt64BE(8) !== IHAVEOPT) {
      throw new Error("no NBD server answers");
    }
    const option = Buffer.alloc(4 + 16);
    option.writeUInt32BE(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES, 0);
    option.writeBigUInt64BE(IHAVEOPT, 4);
    option.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
    // The name has length 0, which is the rest of it.
    this.#socket.write(option);
    this.size = (await this.#receive(10)).readBigUInt64BE(0);
  }

  /** The next bytes, so many. @throws Error when they do not come */
  async #receive(length: number): Promise<Buffer> {
    await this.#until(() => this.#received.length >= length);
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** Waits until something is so, but not beyond the end of the connection, nor for ever. */
  async #until(condition: () => boolean): Promise<void> {
    const limit = AbortSignal.timeout(LIMIT);
    while (!condition()) {
      if (this.#socket.closed) throw new Error("the server has closed the connection");
      await once(this.#events, "change", { signal: limit });
    }
  }
}
