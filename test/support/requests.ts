/** Requests over a raw socket, and their replies in whichever form they come. */
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import { type RawClient } from "./nbd-client.ts";
import { encodeExtended, encodeRequest } from "./wire.ts";

/** The only values that may go over the wire ("Error values"). */
const ALLOWED = new Set([0, 1, 5, 12, 22, 28, 75, 95, 108]);

/** A reply, without what it is about. */
export interface Said {
  readonly form: "simple" | "structured" | "extended";
  readonly cookie: bigint;
  /** The request's offset, of an extended reply. */
  readonly offset?: bigint;
  readonly error: number;
  /** The types of the chunks, and their payloads. */
  readonly chunks: readonly (readonly [type: number, payload: Buffer])[];
}

/** Takes a whole reply. @param data bytes that follow a simple reply without an error */
export async function takeReply(client: RawClient, data = 0): Promise<Said> {
  const first = await client.receive(16);
  const cookie = first.readBigUInt64BE(8);
  const magic = first.readUInt32BE(0);
  let error = first.readUInt32BE(4);
  if (magic === NBD_SIMPLE_REPLY_MAGIC) {
    if (error === 0) await client.receive(data);
    return { form: "simple", cookie, error: allowed(error), chunks: [] };
  }
  const extended = magic === NBD_EXTENDED_REPLY_MAGIC;
  if (!extended && magic !== NBD_STRUCTURED_REPLY_MAGIC) {
    throw new Error(`no reply: ${first.toString("hex")}`);
  }
  error = 0;
  let offset: bigint | undefined;
  const chunks: [number, Buffer][] = [];
  for (let chunk = first; ; chunk = await client.receive(16)) {
    const rest = await client.receive(extended ? 16 : 4);
    const length = Number(extended ? rest.readBigUInt64BE(8) : rest.readUInt32BE(0));
    const payload = await client.receive(length);
    if (extended) {
      const at = rest.readBigUInt64BE(0);
      if (at !== (offset ??= at)) throw new Error("chunks of one reply with different offsets");
    }
    chunks.push([chunk.readUInt16BE(6), payload]);
    if (chunk.readUInt32BE(0) !== magic || chunk.readBigUInt64BE(8) !== cookie) {
      throw new Error(`not a chunk of the same reply: ${chunk.toString("hex")}`);
    }
    if (chunk.readUInt16BE(6) === NBD_REPLY_TYPE_ERROR) {
      error = payload.readUInt32BE(0);
      // "the server MUST NOT send NBD_OK", and the text has its own length.
      if (error === 0 || payload.readUInt16BE(4) !== length - 6) throw new Error("a bad error");
    }
    if ((chunk.readUInt16BE(4) & NBD_REPLY_FLAG_DONE) !== 0) {
      const said = { cookie, error: allowed(error), chunks };
      return offset === undefined
        ? { form: "structured", ...said }
        : { form: "extended", offset, ...said };
    }
  }
}

function allowed(error: number): number {
  if (!ALLOWED.has(error)) throw new Error(`${error} must not go over the wire`);
  return error;
}

/** Sends a request without a payload. @returns the error of its reply */
export async function ask(
  client: RawClient,
  type: number,
  offset: number | bigint,
  length: number,
  flags = 0,
): Promise<number> {
  client.send(encodeRequest(type, offset, length, { flags }));
  // NBD_CMD_READ is the only one whose simple reply has data.
  return (await takeReply(client, type === 0 ? length : 0)).error;
}

/** The same with extended headers, in answer to which everything has to be right. */
export async function askExtended(
  client: RawClient,
  type: number,
  offset: number | bigint,
  length: number | bigint,
  flags = 0,
): Promise<Said> {
  client.send(encodeExtended(type, offset, length, { flags }));
  return await takeExtended(client, offset);
}

/** Takes a reply that has to be an extended one, to the request of this offset. */
export async function takeExtended(client: RawClient, offset: number | bigint): Promise<Said> {
  const said = await takeReply(client);
  if (said.form !== "extended" || said.offset !== BigInt(offset)) {
    throw new Error(`a ${said.form} reply to a request at ${said.offset}, not at ${offset}`);
  }
  return said;
}
