/** An NBD client's connection that can stop anywhere, in the middle of a request too (doc/proto.md). */
import { connect, type Socket } from "node:net";
import {
  IHAVEOPT,
  NBD_CMD_DISC,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_OPT_EXPORT_NAME,
  NBD_SIMPLE_REPLY_MAGIC,
} from "../../../src/protocol/constants.ts";
import { encodeRequest } from "../../../src/protocol/request.ts";

/** Greeting: NBDMAGIC, IHAVEOPT, handshake flags. */
const GREETING = 18;
/** What answers NBD_OPT_EXPORT_NAME: the size and the transmission flags. */
const EXPORT = 10;
const SIMPLE_REPLY = 16;

export class Connection {
  #received: Buffer[] = [];
  #length = 0;
  #over = false;
  #wake = () => {};

  private constructor(readonly socket: Socket) {
    const finish = () => {
      this.#over = true;
      this.#wake();
    };
    socket.on("data", (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#length += chunk.length;
      this.#wake();
    });
    for (const event of ["end", "close", "error"]) socket.on(event, finish);
  }

  /** Connects to a Unix socket and chooses the default export. */
  static async to(path: string): Promise<Connection> {
    const connection = new Connection(connect(path));
    await connection.#receive(GREETING);
    const words = Buffer.alloc(20);
    words.writeUInt32BE(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES, 0);
    words.writeBigUInt64BE(IHAVEOPT, 4);
    words.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
    await connection.send(words);
    await connection.#receive(EXPORT);
    return connection;
  }

  /** Resolves when the kernel has taken all of it. */
  send(...parts: Uint8Array[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.socket.write(Buffer.concat(parts), () => resolve());
    return promise;
  }

  /** @returns the data that follows the reply. @throws Error unless the request has succeeded */
  async reply(length: number): Promise<Buffer> {
    const header = await this.#receive(SIMPLE_REPLY);
    if (header.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC) throw new Error("that is no reply");
    const error = header.readUInt32BE(4);
    if (error !== 0) throw new Error(`the request has failed with ${error}`);
    return await this.#receive(length);
  }

  async disconnect(): Promise<void> {
    await this.send(encodeRequest(NBD_CMD_DISC, 0, 0, 0));
    await this.close();
  }

  /** Without a word. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.socket.once("close", () => resolve());
    this.socket.destroy();
    return await promise;
  }

  async #receive(length: number): Promise<Buffer> {
    while (this.#length < length) {
      if (this.#over) throw new Error("the server is gone");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(length)];
    this.#length = all.length - length;
    return all.subarray(0, length);
  }
}
