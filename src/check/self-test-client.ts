/** A small NBD client for the self-test and the demo: it needs no other program. */
import { EventEmitter, once } from "node:events";
import { connect, type Socket } from "node:net";
import * as nbd from "../protocol/constants.ts";
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
   * Connects to a Unix socket and negotiates (NBD_OPT_GO) for the default export.
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

  /** Sends a WRITE; {@link settle} waits for the answer. */
  write(offset: number, payload: Uint8Array): void {
    this.#send(nbd.NBD_CMD_WRITE, offset, payload.length);
    this.#socket.write(payload);
  }

  /** Sends a WRITE_ZEROES. */
  writeZeroes(offset: number, length: number): void {
    this.#send(nbd.NBD_CMD_WRITE_ZEROES, offset, length);
  }

  /** Reads, when all else is answered. @throws Error when a request has failed */
  async read(offset: number, length: number): Promise<Uint8Array> {
    await this.settle();
    this.#send(nbd.NBD_CMD_READ, offset, length);
    await this.settle();
    return await this.#receive(length);
  }

  /** Waits until all is answered. @throws Error when a request has failed */
  async settle(): Promise<void> {
    while (this.#unanswered.size > 0) {
      const reply = await this.#receive(nbd.NBD_SIMPLE_REPLY_SIZE);
      const [magic, error, , cookie] = [0, 4, 8, 12].map((at) => reply.readUInt32BE(at));
      if (magic !== nbd.NBD_SIMPLE_REPLY_MAGIC || !this.#unanswered.delete(cookie as number)) {
        throw new Error(`the server's answer makes no sense: ${reply.toString("hex")}`);
      }
      if (error !== nbd.NBD_OK) throw new Error(`request ${cookie} has failed with error ${error}`);
    }
  }

  /** Waits until all that was written is on its way. @throws Error when a request has failed */
  async flush(): Promise<void> {
    this.#send(nbd.NBD_CMD_FLUSH, 0, 0);
    await this.settle();
  }

  /** Leaves as clients should (NBD_CMD_DISC), and waits until the server has closed the connection. */
  async disconnect(): Promise<void> {
    this.#socket.write(encodeRequest(nbd.NBD_CMD_DISC, 0, 0, 0));
    if (!this.#socket.closed)
      await once(this.#socket, "close", { signal: AbortSignal.timeout(LIMIT) });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #send(type: number, offset: number, length: number): void {
    this.#unanswered.add(++this.#cookie);
    this.#socket.write(encodeRequest(type, offset, length, this.#cookie));
  }

  async #negotiate(): Promise<void> {
    const greeting = await this.#receive(18);
    const magics = [greeting.readBigUInt64BE(0), greeting.readBigUInt64BE(8)];
    if (magics[0] !== nbd.NBDMAGIC || magics[1] !== nbd.IHAVEOPT) {
      throw new Error("no NBD server answers");
    }
    const go = Buffer.alloc(4 + 16 + 6);
    go.writeUInt32BE(nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES, 0);
    go.writeBigUInt64BE(nbd.IHAVEOPT, 4);
    go.writeUInt32BE(nbd.NBD_OPT_GO, 12);
    // The name of length 0, and no information that is asked for in particular.
    go.writeUInt32BE(6, 16);
    this.#socket.write(go);
    for (;;) {
      const header = await this.#receive(20);
      const type = header.readUInt32BE(12);
      const length = header.readUInt32BE(16);
      if (header.readBigUInt64BE(0) !== nbd.NBD_REP_MAGIC) {
        throw new Error("negotiation is out of step");
      }
      if (type === nbd.NBD_REP_ACK) return;
      const data = await this.#receive(length);
      if (type !== nbd.NBD_REP_INFO) throw new Error(`negotiation has failed: ${data.toString()}`);
      if (data.readUInt16BE(0) === nbd.NBD_INFO_EXPORT) this.size = data.readBigUInt64BE(2);
    }
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
