/** Valid conversations of the transmission phase, and what a server has to see in any bytes. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
} from "../../src/protocol/constants.ts";
import { pseudoRandom } from "../support/images.ts";
import { encodeExtended, encodeRequest } from "../support/wire.ts";
import type { Random } from "./random.ts";

/** Where payloads come from. */
const NOISE = pseudoRandom(1 << 20, 77);

/**
 * Which way the disk goes; clients do the other thing, too, now and then. In "any" order they write here and
 * there, and do all other things as often.
 */
export type Way = "write" | "read" | "any";

/** Lengths around which the program takes another path. */
const LENGTHS = [1, 100, 511, 512, 4096, 4096, 20_000, 32_767, 32_768, 40_000, 65_536];

/** Lengths of which 32 bits are not all. */
const LONG_LENGTHS = [2n ** 32n, 2n ** 32n + 512n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];

/**
 * Requests that are mostly in order, if they are to be, and mostly inside a disk of `size` bytes.
 *
 * @param extended with extended headers
 */
export function requests(way: Way, size: number, random: Random, extended: boolean): Buffer[] {
  const messages: Buffer[] = [];
  let at = random.chance(0.8) ? 0 : random.below(size);
  let cookie = BigInt(random.below(1 << 30)) << 20n;
  const count = random.pick([1, 5, 20, 40]);
  const usual = way === "read" ? NBD_CMD_READ : NBD_CMD_WRITE;
  for (let i = 0; i < count; i++) {
    const type = random.chance(way === "any" ? 0.4 : 0.75) ? usual : random.pick(OTHERS);
    if (way === "any") at = random.below(size);
    const room = Math.max(0, size - at);
    const length = Math.min(random.pick(LENGTHS), random.chance(0.97) ? room : size);
    if (random.chance(0.15)) at += random.below(Math.ceil(size / 10));
    else if (random.chance(0.02)) at = Math.max(0, at - random.below(10_000));
    const flags = random.chance(0.95) ? 0 : 1 << random.below(5);
    messages.push(
      extended
        ? extendedRequest(type, at, length, { cookie: cookie++, flags }, random)
        : request(type, at, length, { cookie: cookie++, flags }, random),
    );
    if (type === usual || type === NBD_CMD_WRITE_ZEROES) at += length;
  }
  const encode = extended ? encodeExtended : encodeRequest;
  if (random.chance(0.7)) messages.push(encode(NBD_CMD_DISC, 0, 0));
  return messages;
}

interface Fields {
  readonly cookie: bigint;
  readonly flags: number;
}

function request(
  type: number,
  offset: number,
  length: number,
  fields: Fields,
  random: Random,
): Buffer {
  const header = encodeRequest(type, offset, length, fields);
  return type === NBD_CMD_WRITE ? withPayload(header, length, random) : header;
}

/**
 * Now and then a command has a payload that takes none, a WRITE does not say that it has one, or a
 * length is no compact one.
 */
function extendedRequest(
  type: number,
  offset: number,
  length: number,
  { cookie, flags }: Fields,
  random: Random,
): Buffer {
  const isWrite = type === NBD_CMD_WRITE;
  if (isWrite || random.chance(0.05)) {
    const flag = isWrite && random.chance(0.3) ? 0 : NBD_CMD_FLAG_PAYLOAD_LEN;
    const all = { cookie, flags: flags | flag };
    return withPayload(encodeExtended(type, offset, length, all), length, random);
  }
  const long = random.chance(0.05) ? random.pick(LONG_LENGTHS) : length;
  return encodeExtended(type, offset, long, { cookie, flags });
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
  /** No longer exact where no command can be so long. */
  readonly length: number;
  /** What has come of what follows the header. */
  readonly payload: Buffer;
  /** All of it is there. */
  readonly whole: boolean;
}

/** How a client's bytes end: as the engine is to call it. */
export type Leaving = "disconnected" | "garbage" | "dropped" | "cut";

/** Takes a client's bytes apart. @param extended it has negotiated extended headers */
export function takeApart(bytes: Buffer, extended: boolean): { found: Found[]; leaving: Leaving } {
  const found: Found[] = [];
  const [size, magic] = extended ? [32, NBD_EXTENDED_REQUEST_MAGIC] : [28, NBD_REQUEST_MAGIC];
  let at = 0;
  while (bytes.length - at >= size) {
    if (bytes.readUInt32BE(at) !== magic) return { found, leaving: "garbage" };
    let flags = bytes.readUInt16BE(at + 4);
    const type = bytes.readUInt16BE(at + 6);
    const length = extended ? bytes.readBigUInt64BE(at + 24) : bytes.readUInt32BE(at + 24);
    const flagged = extended && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0;
    const carries = flagged || type === NBD_CMD_WRITE;
    if (extended && carries && length > LARGEST_PAYLOAD) return { found, leaving: "garbage" };
    if (extended && type === NBD_CMD_WRITE) flags &= ~NBD_CMD_FLAG_PAYLOAD_LEN;
    if (type === NBD_CMD_DISC) return { found, leaving: "disconnected" };
    const end = carries ? at + size + Number(length) : at;
    const payload = carries ? bytes.subarray(at + size, end) : EMPTY;
    const whole = !carries || payload.length === Number(length);
    found.push({
      type,
      length: Number(length),
      payload,
      whole,
      flags,
      cookie: bytes.readBigUInt64BE(at + 8),
      offset: Number(bytes.readBigUInt64BE(at + 16)),
    });
    if (!whole) return { found, leaving: "cut" };
    at += size + payload.length;
  }
  return { found, leaving: at === bytes.length ? "dropped" : "cut" };
}

const EMPTY = Buffer.alloc(0);

export const EINVAL = 22;

/** A READ of more bytes is refused, and a payload of more is not taken. */
export const LARGEST_PAYLOAD = 32 << 20;

/** True for a command that has a payload and takes none. */
export function hasUnwanted({ type, payload }: Found): boolean {
  return type !== NBD_CMD_WRITE && payload.length > 0;
}

/** A request as it stands in what the fuzzer finds. */
export function describeRequest({ type, flags, offset, length }: Found): string {
  return `command ${type} flags ${flags} of ${length} bytes at ${offset}`;
}
