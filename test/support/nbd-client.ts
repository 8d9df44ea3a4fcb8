/** A client that says exactly what a test wants said. Real clients are in `test/e2e`. */
import { connect, type Socket } from "node:net";
import {
  IHAVEOPT,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_OPT_EXPORT_NAME,
  NBD_REP_ACK,
  NBD_REP_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import { bounded } from "./program.ts";

/** An option as it goes over the wire. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(16 + data.length);
  bytes.writeBigUInt64BE(IHAVEOPT, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, 16);
  return bytes;
}

/** A request header as it goes over the wire. */
export function encodeRequest(
  type: number,
  offset: number | bigint,
  length: number,
  { flags = 0, cookie = 1n, magic = NBD_REQUEST_MAGIC } = {},
): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** A WRITE with its payload. */
export function encodeWrite(offset: number | bigint, payload: Uint8Array, cookie = 1n): Buffer {
  return Buffer.concat([encodeRequest(NBD_CMD_WRITE, offset, payload.length, { cookie }), payload]);
}

/** A request header of NBD_OPT_EXTENDED_HEADERS as it goes over the wire. */
export function encodeExtended(
  type: number,
  offset: number | bigint,
  length: number | bigint,
  { flags = 0, cookie = 1n, magic = NBD_EXTENDED_REQUEST_MAGIC } = {},
): Buffer {
  const bytes = Buffer.alloc(32);
  encodeRequest(type, offset, 0, { flags, cookie, magic }).copy(bytes);
  bytes.writeBigUInt64BE(BigInt(length), 24);
  return bytes;
}

/** The same of a command that has a payload. */
export function encodeWithPayload(
  type: number,
  offset: number | bigint,
  payload: Uint8Array,
  { flags = 0, cookie = 1n } = {},
): Buffer {
  flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
  const header = encodeExtended(type, offset, payload.length, { flags, cookie });
  return Buffer.concat([header, payload]);
}

/** A WRITE with its payload, and an extended header. */
export function encodeExtendedWrite(
  offset: number | bigint,
  payload: Uint8Array,
  cookie = 1n,
): Buffer {
  return encodeWithPayload(NBD_CMD_WRITE, offset, payload, { cookie });
}

/** A reply as it came over the wire. */
export interface Reply {
  readonly error: number;
  readonly cookie: bigint;
}

/** An option reply as it came over the wire. */
export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

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
  static async transmission(where: string | number): Promise<RawClient> {
    const client = await RawClient.negotiating(where);
    client.send(encodeOption(NBD_OPT_EXPORT_NAME));
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

  /** The next simple reply. */
  async reply(): Promise<Reply> {
    const bytes = await this.receive(16);
    const magic = bytes.readUInt32BE(0);
    if (magic !== NBD_SIMPLE_REPLY_MAGIC) throw new Error(`bad reply ${bytes.toString("hex")}`);
    return { error: bytes.readUInt32BE(4), cookie: bytes.readBigUInt64BE(8) };
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
    const error = await this.#ask(encodeRequest(NBD_CMD_READ, offset, length));
    return error === 0 ? await this.receive(length) : error;
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
