/** Requests over a raw socket, and their replies in whichever form they come. */
import {
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import { encodeRequest, type RawClient } from "./nbd-client.ts";

/** The only values that may go over the wire ("Error values"). */
const ALLOWED = new Set([0, 1, 5, 12, 22, 28, 75, 95, 108]);

/** A reply, without what it is about. */
export interface Said {
  readonly form: "simple" | "structured";
  readonly cookie: bigint;
  readonly error: number;
}

/** Takes a whole reply. @param data bytes that follow a simple reply without an error */
export async function takeReply(client: RawClient, data = 0): Promise<Said> {
  const first = await client.receive(16);
  const cookie = first.readBigUInt64BE(8);
  const magic = first.readUInt32BE(0);
  let error = first.readUInt32BE(4);
  if (magic === NBD_SIMPLE_REPLY_MAGIC) {
    if (error === 0) await client.receive(data);
    return { form: "simple", cookie, error: allowed(error) };
  }
  if (magic !== NBD_STRUCTURED_REPLY_MAGIC) throw new Error(`no reply: ${first.toString("hex")}`);
  error = 0;
  for (let chunk = first; ; chunk = await client.receive(16)) {
    const length = (await client.receive(4)).readUInt32BE(0);
    const payload = await client.receive(length);
    if (chunk.readUInt32BE(0) !== magic || chunk.readBigUInt64BE(8) !== cookie) {
      throw new Error(`not a chunk of the same reply: ${chunk.toString("hex")}`);
    }
    if (chunk.readUInt16BE(6) === NBD_REPLY_TYPE_ERROR) {
      error = payload.readUInt32BE(0);
      // "the server MUST NOT send NBD_OK", and the text has its own length.
      if (error === 0 || payload.readUInt16BE(4) !== length - 6) throw new Error("a bad error");
    }
    if ((chunk.readUInt16BE(4) & NBD_REPLY_FLAG_DONE) !== 0) {
      return { form: "structured", cookie, error: allowed(error) };
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
