/**
 * The tests' own client: it says exactly what a test wants said, over a socket of any kind, inside TLS or
 * not (tls-client.ts). read-client.ts puts READs on top of it. It is not the client of `check`
 * (src/check/client.ts), which cannot say anything wrong. Real clients are in `test/e2e`.
 */
import { connect, type Socket } from "node:net";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_EXPORT_NAME,
  NBD_REP_ACK,
  NBD_REP_MAGIC,
} from "../../src/protocol/constants.ts";
import { bounded } from "./program.ts";
import { type Decoder, decodeReply } from "./replies.ts";
import { encodeOption, encodeRequest, encodeWrite, type OptionReply } from "./wire.ts";

/** A connection, byte by byte. */
export class RawClient implements Disposable {
  #received = Buffer.alloc(0);
  #finished = false;
  #wake = () => {};

  constructor(readonly socket: Socket) {
    const finish = () => {
      this.#finished = true;
      this.#wake();
    };
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on("end", finish);
    socket.on("close", finish);
    socket.on("error", finish);
  }

  /** Connects to a Unix socket's path or a TCP port of this machine. */
  static async connect(where: string | number): Promise<RawClient> {
    const socket =
      typeof where === "string"
        ? connect({ path: where, allowHalfOpen: true })
        : connect({ port: where, host: "127.0.0.1", allowHalfOpen: true });
    const client = new RawClient(socket);
    await bounded(
      new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      }),
      "a connection",
    );
    return client;
  }

  /** Connects and says the client flags: options come next. */
  static async negotiating(where: string | number): Promise<RawClient> {
    const client = await RawClient.connect(where);
    await client.receive(18);
    client.send(Buffer.from([0, 0, 0, 3]));
    return client;
  }

  /** Connects and negotiates the shortest way. */
  static async transmission(where: string | number, exportName = ""): Promise<RawClient> {
    const client = await RawClient.negotiating(where);
    client.send(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from(exportName)));
    await client.receive(10);
    return client;
  }

  send(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** The next `length` bytes. */
  async receive(length: number): Promise<Buffer> {
    const all = (async () => {
      while (this.#received.length < length) {
        if (this.#finished) throw new Error(`closed after ${this.#received.length} bytes`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    })();
    await bounded(all, `${length} bytes from the server`);
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** Waits until the server has closed; what it had sent before may still be received. */
  async closed(): Promise<void> {
    const all = (async () => {
      while (!this.#finished) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    })();
    await bounded(all, "the server to close");
  }

  /** Takes what comes next apart. */
  async take<T>(decoder: Decoder<T>): Promise<T> {
    let step = decoder.next();
    while (step.done !== true) step = decoder.next(await this.receive(step.value));
    return step.value;
  }

  /** The next reply, which has to be a simple one without data. */
  async reply(): Promise<{ error: number; cookie: bigint }> {
    const { form, error, cookie } = await this.take(decodeReply());
    if (form !== "simple") throw new Error(`a ${form} reply`);
    return { error, cookie };
  }

  /** The next option reply. */
  async optionReply(): Promise<OptionReply> {
    const header = await this.receive(20);
    if (header.readBigUInt64BE(0) !== NBD_REP_MAGIC) {
      throw new Error(`bad option reply ${header.toString("hex")}`);
    }
    const data = await this.receive(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** Sends an option, and takes its replies. @returns the last one */
  async option(option: number, data?: Uint8Array): Promise<OptionReply> {
    this.send(encodeOption(option, data));
    for (;;) {
      const reply = await this.optionReply();
      if (reply.option !== option) throw new Error(`a reply to option ${reply.option}`);
      if (reply.type === NBD_REP_ACK || reply.type >= 2 ** 31) return reply;
    }
  }

  /** Sends a request and takes its reply. @returns the error */
  async #ask(...parts: Uint8Array[]): Promise<number> {
    this.send(...parts);
    return (await this.reply()).error;
  }

  write(offset: number | bigint, payload: Uint8Array): Promise<number> {
    return this.#ask(encodeWrite(offset, payload));
  }

  writeZeroes(offset: number | bigint, length: number): Promise<number> {
    return this.#ask(encodeRequest(NBD_CMD_WRITE_ZEROES, offset, length));
  }

  flush(): Promise<number> {
    return this.#ask(encodeRequest(NBD_CMD_FLUSH, 0, 0));
  }

  /** @returns the error, or the data */
  async read(offset: number | bigint, length: number): Promise<number | Buffer> {
    this.send(encodeRequest(NBD_CMD_READ, offset, length));
    const { error, data } = await this.take(decodeReply(() => length));
    return error === 0 ? data : error;
  }

  disconnect(): void {
    this.send(encodeRequest(NBD_CMD_DISC, 0, 0));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Connects where nobody is let in, and waits for the end; it may come before the connection is seen. */
export async function turnedAway(where: string | number): Promise<void> {
  try {
    using client = await RawClient.connect(where);
    await client.closed();
  } catch (error) {
    if ((error as { code?: string }).code !== "ECONNRESET") throw error;
  }
}
