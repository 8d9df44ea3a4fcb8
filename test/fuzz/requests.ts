/** Valid conversations of the transmission phase, and what a server has to see in any bytes. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_REQUEST_MAGIC,
} from "../../src/protocol/constants.ts";
import { pseudoRandom } from "../support/images.ts";
import { encodeRequest } from "../support/nbd-client.ts";
import type { Random } from "./random.ts";

/** Where payloads come from. */
const NOISE = pseudoRandom(1 << 20, 77);

/** Which way the disk goes; clients do the other thing, too, now and then. */
export type Way = "write" | "read";

/** Lengths around which the program takes another path. */
const LENGTHS = [1, 100, 511, 512, 4096, 4096, 20_000, 32_767, 32_768, 40_000, 65_536];

/** Requests that are mostly in order and mostly inside a disk of `size` bytes. */
export function requests(way: Way, size: number, random: Random): Buffer[] {
  const messages: Buffer[] = [];
  let at = random.chance(0.8) ? 0 : random.below(size);
  let cookie = BigInt(random.below(1 << 30)) << 20n;
  const count = random.pick([1, 5, 20, 40]);
  const usual = way === "write" ? NBD_CMD_WRITE : NBD_CMD_READ;
  for (let i = 0; i < count; i++) {
    const type = random.chance(0.75) ? usual : random.pick(OTHERS);
    const room = Math.max(0, size - at);
    const length = Math.min(random.pick(LENGTHS), random.chance(0.97) ? room : size);
    if (random.chance(0.15)) at += random.below(Math.ceil(size / 10));
    else if (random.chance(0.02)) at = Math.max(0, at - random.below(10_000));
    const flags = random.chance(0.95) ? 0 : 1 << random.below(5);
    const header = encodeRequest(type, at, length, { cookie: cookie++, flags });
    messages.push(type === NBD_CMD_WRITE ? withPayload(header, length, random) : header);
    if (type === usual || type === NBD_CMD_WRITE_ZEROES) at += length;
  }
  if (random.chance(0.7)) messages.push(encodeRequest(NBD_CMD_DISC, 0, 0));
  return messages;
}

const OTHERS = [
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_CMD_WRITE_ZEROES,
  NBD_CMD_FLUSH,
  NBD_CMD_TRIM,
  NBD_CMD_BLOCK_STATUS,
  5,
  8,
  0xffff,
];

function withPayload(header: Buffer, length: number, random: Random): Buffer {
  if (random.chance(0.1)) return Buffer.concat([header, Buffer.alloc(length)]);
  const from = random.below(NOISE.length - length);
  return Buffer.concat([header, NOISE.subarray(from, from + length)]);
}

/** A request as it is found in a client's bytes. */
export interface Found {
  readonly type: number;
  readonly flags: number;
  readonly cookie: bigint;
  /** No longer exact where there is no disk any more. */
  readonly offset: number;
  readonly length: number;
  /** What has come of a WRITE's data. */
  readonly payload: Buffer;
  /** All of it is there. */
  readonly whole: boolean;
}

/** How a client's bytes end: as the engine is to call it. */
export type Leaving = "disconnected" | "garbage" | "dropped" | "cut";

/** Takes a client's bytes apart. */
export function takeApart(bytes: Buffer): { found: Found[]; leaving: Leaving } {
  const found: Found[] = [];
  let at = 0;
  while (bytes.length - at >= 28) {
    if (bytes.readUInt32BE(at) !== NBD_REQUEST_MAGIC) return { found, leaving: "garbage" };
    const type = bytes.readUInt16BE(at + 6);
    if (type === NBD_CMD_DISC) return { found, leaving: "disconnected" };
    const length = bytes.readUInt32BE(at + 24);
    const payload = type === NBD_CMD_WRITE ? bytes.subarray(at + 28, at + 28 + length) : EMPTY;
    const whole = type !== NBD_CMD_WRITE || payload.length === length;
    found.push({
      type,
      length,
      payload,
      whole,
      flags: bytes.readUInt16BE(at + 4),
      cookie: bytes.readBigUInt64BE(at + 8),
      offset: Number(bytes.readBigUInt64BE(at + 16)),
    });
    if (!whole) return { found, leaving: "cut" };
    at += 28 + payload.length;
  }
  return { found, leaving: at === bytes.length ? "dropped" : "cut" };
}

const EMPTY = Buffer.alloc(0);

export const EINVAL = 22;

/** A READ of more bytes is refused. */
export const LARGEST_READ = 32 << 20;

/** A request as it stands in what the fuzzer finds. */
export function describeRequest({ type, flags, offset, length }: Found): string {
  return `command ${type} flags ${flags} of ${length} bytes at ${offset}`;
}
