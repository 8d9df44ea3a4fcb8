/** Requests over a raw socket, and their replies in whichever form they come. */
import type { RawClient } from "./nbd-client.ts";
import { decodeReply, type Reply } from "./replies.ts";
import { encodeExtended, encodeRequest } from "./wire.ts";

/** Takes a whole reply. @param data bytes that follow a simple reply without an error */
export function takeReply(client: RawClient, data = 0): Promise<Reply> {
  return client.take(decodeReply(() => data));
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
): Promise<Reply> {
  client.send(encodeExtended(type, offset, length, { flags }));
  return await takeExtended(client, offset);
}

/** Takes a reply that has to be an extended one, to the request of this offset. */
export async function takeExtended(client: RawClient, offset: number | bigint): Promise<Reply> {
  const said = await takeReply(client);
  if (said.form !== "extended" || said.offset !== BigInt(offset)) {
    throw new Error(`a ${said.form} reply to a request at ${said.offset}, not at ${offset}`);
  }
  return said;
}
