/** A client that reads, and takes simple or structured replies apart. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { encodeOption, encodeRequest } from "./wire.ts";

/** What a READ came to. */
export interface Answer {
  readonly error: number;
  /** Empty after an error. */
  readonly data: Buffer;
  /** What a structured error said. */
  readonly message: string;
}

/** Asks for `base:allocation` of the default export. */
const SELECT_ALLOCATION = Buffer.concat([
  Buffer.from([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15]),
  Buffer.from("base:allocation"),
]);

export class ReadClient implements Disposable {
  constructor(
    readonly raw: RawClient,
    readonly structured: boolean,
  ) {}

  /** Connects and negotiates. */
  static async transmission(where: string | number, structured: boolean): Promise<ReadClient> {
    const raw = await RawClient.connect(where);
    const client = new ReadClient(raw, structured);
    await raw.receive(18);
    raw.send(Buffer.from([0, 0, 0, 3]));
    if (structured) {
      raw.send(encodeOption(NBD_OPT_STRUCTURED_REPLY));
      await raw.receive(20);
      await raw.option(NBD_OPT_SET_META_CONTEXT, SELECT_ALLOCATION);
    }
    raw.send(encodeOption(NBD_OPT_EXPORT_NAME));
    await raw.receive(10);
    return client;
  }

  /** Sends a READ, and takes no answer. */
  ask(offset: number, length: number): void {
    this.raw.send(encodeRequest(NBD_CMD_READ, offset, length));
  }

  /** The answer to the first READ that has none yet. @throws Error when the connection ends */
  async answer(offset: number, length: number): Promise<Answer> {
    if (this.structured) return await this.#chunks(offset, length);
    const header = await this.raw.receive(16);
    if (header.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC) throw new Error("no simple reply");
    const error = header.readUInt32BE(4);
    const data = error === 0 ? await this.raw.receive(length) : Buffer.alloc(0);
    return { error, data, message: "" };
  }

  async #chunks(start: number, length: number): Promise<Answer> {
    const data = Buffer.alloc(length);
    let left = length;
    for (;;) {
      const header = await this.raw.receive(20);
      if (header.readUInt32BE(0) !== NBD_STRUCTURED_REPLY_MAGIC) throw new Error("no chunk");
      const type = header.readUInt16BE(6);
      const payload = await this.raw.receive(header.readUInt32BE(16));
      if (type === NBD_REPLY_TYPE_ERROR) {
        const message = payload.toString("utf8", 6, 6 + payload.readUInt16BE(4));
        return { error: payload.readUInt32BE(0), data: Buffer.alloc(0), message };
      }
      if (type === NBD_REPLY_TYPE_OFFSET_DATA) {
        payload.copy(data, Number(payload.readBigUInt64BE(0)) - start, 8);
        left -= payload.length - 8;
      } else if (type === NBD_REPLY_TYPE_OFFSET_HOLE) {
        left -= payload.readUInt32BE(8);
      } else {
        throw new Error(`chunk of type ${type}`);
      }
      if ((header.readUInt16BE(4) & NBD_REPLY_FLAG_DONE) === 0) continue;
      if (left !== 0) throw new Error(`${left} bytes are missing`);
      return { error: 0, data, message: "" };
    }
  }

  async read(offset: number, length: number): Promise<Answer> {
    this.ask(offset, length);
    return await this.answer(offset, length);
  }

  /** Reads from `start` to `end` in order. @returns the first error's answer, or all of it */
  async readAll(start: number, end: number, piece: number): Promise<Answer> {
    const parts: Buffer[] = [];
    for (let at = start; at < end; at += piece) {
      const answer = await this.read(at, Math.min(piece, end - at));
      if (answer.error !== 0) return { ...answer, data: Buffer.concat(parts) };
      parts.push(answer.data);
    }
    return { error: 0, data: Buffer.concat(parts), message: "" };
  }

  /** The flags of the extent at `offset`; only with structured replies. */
  async blockStatus(offset: number, length: number): Promise<number> {
    this.raw.send(encodeRequest(NBD_CMD_BLOCK_STATUS, offset, length));
    const header = await this.raw.receive(20);
    if (header.readUInt16BE(6) !== NBD_REPLY_TYPE_BLOCK_STATUS) throw new Error("no status");
    const payload = await this.raw.receive(header.readUInt32BE(16));
    return payload.readUInt32BE(8);
  }

  disconnect(): void {
    this.raw.disconnect();
  }

  /** Is gone, all at once and without a word. */
  hangUp(): void {
    this.raw.socket.destroy();
  }

  [Symbol.dispose](): void {
    this.raw[Symbol.dispose]();
  }
}
