/** Answers to BLOCK_STATUS with extended headers, taken apart and held to the specification. */
import { expect } from "bun:test";
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
} from "../../src/protocol/constants.ts";
import type { Offset } from "../../src/protocol/offset.ts";
import type { EngineFixture } from "./engine.ts";
import type { Peer } from "./peer.ts";

/** @returns lengths and states, or the error */
export function takeStatus(
  stream: EngineFixture,
  peer: Peer,
  { offset, cookie }: { offset: Offset; cookie: bigint },
): [length: bigint, flags: number][] | number {
  stream.until(() => peer.available >= 32);
  const header = peer.take(32);
  expect(header.readUInt32BE(0)).toBe(NBD_EXTENDED_REPLY_MAGIC);
  expect(header.readUInt16BE(4)).toBe(NBD_REPLY_FLAG_DONE);
  expect(header.readBigUInt64BE(8)).toBe(cookie);
  expect(header.readBigUInt64BE(16)).toBe(BigInt(offset));
  const size = Number(header.readBigUInt64BE(24));
  stream.until(() => peer.available >= size);
  const payload = peer.take(size);
  if (header.readUInt16BE(6) === NBD_REPLY_TYPE_ERROR) return payload.readUInt32BE(0);
  expect(header.readUInt16BE(6)).toBe(NBD_REPLY_TYPE_BLOCK_STATUS_EXT);
  expect(payload.readUInt32BE(0)).toBe(1);
  // "the server MUST ensure that the header length is equal to descriptor count * 16 + 8".
  expect(size).toBe(8 + 16 * payload.readUInt32BE(4));
  const extents: [bigint, number][] = [];
  for (let at = 8; at < size; at += 16) {
    // "the most-significant 32 bits of status MUST be all zeroes".
    expect(payload.readUInt32BE(at + 8)).toBe(0);
    extents.push([payload.readBigUInt64BE(at), payload.readUInt32BE(at + 12)]);
  }
  return extents;
}
