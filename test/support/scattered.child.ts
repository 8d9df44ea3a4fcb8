/**
 * A client that writes a disk in pieces of any length, each once and in no order, over two connections at once.
 * Its arguments are a socket and a raw image. Zeroes are asked for, or left out.
 */
import { readFileSync } from "node:fs";
import { RawClient } from "./nbd-client.ts";

const KiB = 1024;
const [socket = "", path = ""] = process.argv.slice(2);
const disk = readFileSync(path);

let state = 7;
/** Below `limit`, the same at every run. */
function random(limit: number): number {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

const LENGTHS = [512, 4 * KiB, 64 * KiB, 256 * KiB, 1024 * KiB];
const pieces: Buffer[] = [];
const offsets: number[] = [];
for (let at = 0; at < disk.length; at += pieces.at(-1)?.length as number) {
  const longest = LENGTHS[random(LENGTHS.length)] as number;
  offsets.push(at);
  pieces.push(disk.subarray(at, at + longest / 2 + random(longest / 2)));
}
const order = offsets.map((_, i) => i);
for (let i = order.length - 1; i > 0; i--) {
  const j = random(i + 1);
  [order[i], order[j]] = [order[j] as number, order[i] as number];
}

async function write(client: RawClient, index: number): Promise<void> {
  const [at, piece] = [offsets[index] as number, pieces[index] as Buffer];
  const isLast = at + piece.length === disk.length;
  let error = 0;
  if (piece.some((byte) => byte !== 0)) error = await client.write(at, piece);
  else if (index % 2 === 0 || isLast) error = await client.writeZeroes(at, piece.length);
  if (error !== 0) throw new Error(`${piece.length} bytes at ${at}: error ${error}`);
}

async function writeAll(): Promise<void> {
  const client = await RawClient.transmission(socket);
  for (let index = order.pop(); index !== undefined; index = order.pop()) {
    await write(client, index);
  }
  client.disconnect();
  await client.closed();
}

await Promise.all([writeAll(), writeAll()]);
process.exit(0);
