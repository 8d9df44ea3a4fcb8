/** The tests' own client where it reads: in simple or structured replies, as it has negotiated. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
} from "../../src/protocol/constants.ts";
import { RawClient } from "./nbd-client.ts";
import { type Answer, answerTo, decodeReply, extentsIn } from "./replies.ts";
import { encodeOption, encodeRequest } from "./wire.ts";

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
    const raw = await RawClient.negotiating(where);
    const client = new ReadClient(raw, structured);
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
    const reply = await this.raw.take(decodeReply(() => length));
    const { structured } = this;
    const answer = answerTo({ cookie: 1n, offset, length, structured }, reply);
    return answer.error === 0 ? answer : { ...answer, data: Buffer.alloc(0) };
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
    return { error: 0, data: Buffer.concat(parts), message: "", chunks: [] };
  }

  /** The flags of the extent at `offset`; only with structured replies. */
  async blockStatus(offset: number, length: number): Promise<number> {
    this.raw.send(encodeRequest(NBD_CMD_BLOCK_STATUS, offset, length));
    const asked = { cookie: 1n, offset, length: 0, structured: this.structured };
    const extents = extentsIn(asked, await this.raw.take(decodeReply()));
    if (typeof extents === "number") throw new Error(`no status, but error ${extents}`);
    return extents[0]?.[1] as number;
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
