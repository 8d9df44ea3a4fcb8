/** Streams of our own through the program and a FIFO, in both directions: nothing else is needed. */
import { randomFillSync } from "node:crypto";
import { mkfifo } from "../../ffi/pipe.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import type { Direction } from "../endpoint/spec.ts";
import { messageIn } from "../messages/notice-error.ts";
import { textOf } from "../messages/text.ts";
import { advertisedSize } from "../protocol/export.ts";
import { host } from "../server/host.ts";
import { SelfTestClient } from "./client.ts";
import { type CheckContext, privateHost } from "./context.ts";
import { FifoReader, FifoWriter } from "./fifo-ends.ts";
import type { Item } from "./item.ts";

/** Milliseconds that all of it may take. */
const LIMIT = 30_000;

const KiB = 1024;
const MiB = 1024 * KiB;

/** The disk's length in bytes: no whole number of sectors. */
const SIZE = 6 * MiB + 12_345;

/** [offset, length] */
type Part = readonly [number, number];

/** What the client writes, in order. Between these there are gaps and zeroes. */
const WRITES: readonly Part[] = [
  // Small ones, many at a time; one that is spliced; one behind a gap; one behind zeroes.
  ...Array.from({ length: 32 }, (_, i): Part => [i * 4 * KiB, 4 * KiB]),
  [128 * KiB, MiB],
  [2 * MiB + 777, 64 * KiB],
  [4 * MiB, 512 * KiB + 1],
];

/** What it zeroes before the last of these, and at the end. */
const ZEROES: readonly [Part, Part] = [
  [3 * MiB, MiB],
  [5 * MiB, SIZE - 5 * MiB],
];

/** Bytes of the requests that a client reads with, in turn: through memory, and spliced. */
const READS = [4 * KiB, 4 * KiB, 64 * KiB, 512 * KiB + 1];

/** Runs both. Never throws. */
export async function selfTests(context: CheckContext): Promise<Item[]> {
  return [await selfTest("write", context), await selfTest("read", context)];
}

async function selfTest(direction: Direction, context: CheckContext): Promise<Item> {
  const item = { topic: "self-test", name: direction === "write" ? "pipe=" : "read=" } as const;
  let folder: PrivateFolder | undefined;
  try {
    folder = new PrivateFolder();
    const path = folder.file("self-test.fifo");
    mkfifo(path, 0o600);
    const problem = await (direction === "write" ? writes : reads)(path, folder.socket, context);
    const way = "went through a private server and a FIFO unchanged";
    const done = `${SIZE} bytes ${direction === "write" ? "with gaps and zeroes " : ""}${way}`;
    return problem === undefined
      ? { ...item, state: "ok", text: done }
      : { ...item, state: "failed", text: problem };
  } catch (error) {
    return { ...item, state: "failed", text: messageIn(error, context.vocabulary) };
  } finally {
    folder?.remove();
  }
}

/** A client writes. @returns what is wrong; undefined when all has arrived */
async function writes(
  path: string,
  socket: string,
  context: CheckContext,
): Promise<string | undefined> {
  const disk = new Uint8Array(SIZE);
  for (const [offset, length] of WRITES) randomFillSync(disk, offset, length);
  using reader = new FifoReader(path);
  const why = await stream("write", path, socket, context, (client) => writeAll(client, disk));
  if (why !== undefined) return `the stream was truncated: ${why}`;
  const { length, digest } = await reader.end();
  if (length !== SIZE) return `${length} bytes have arrived of ${SIZE}`;
  return digest === digestOf(disk) ? undefined : "what has arrived is not what was written";
}

/** A client reads. As {@link writes}. */
async function reads(
  path: string,
  socket: string,
  context: CheckContext,
): Promise<string | undefined> {
  const disk = randomFillSync(new Uint8Array(SIZE));
  let read: string | undefined;
  const why = await stream("read", path, socket, context, async (client) => {
    using _ = new FifoWriter(path, disk);
    read = await readAll(client);
  });
  if (why !== undefined) return `the stream was truncated: ${why}`;
  return read === digestOf(disk) ? undefined : "what was read is not what was given";
}

/** Serves one stream to one client. @returns why it is truncated, if it is */
async function stream(
  direction: Direction,
  path: string,
  socket: string,
  context: CheckContext,
  talk: (client: SelfTestClient) => Promise<void>,
): Promise<string | undefined> {
  const { why } = await host(
    {
      ...privateHost(context, { [direction === "write" ? "pipe" : "read"]: path, size: SIZE }),
      short: "fail",
      entrance: { kind: "unix", path: socket },
    },
    async ({ server, conclude, interrupted }) => {
      const { state } = server;
      const limit = setTimeout(() => server.abort(), LIMIT);
      try {
        await meet(socket, talk);
        const over = () => state.ended || context.stopSignal.caught !== undefined;
        await server.until(() => over() || (state.streamed && server.open === 0));
        const stopped = context.stopSignal.caught !== undefined;
        return stopped ? interrupted() : await conclude("clients");
      } finally {
        clearTimeout(limit);
      }
    },
  );
  return why === undefined ? undefined : textOf(why, context.vocabulary);
}

async function meet(
  socket: string,
  talk: (client: SelfTestClient) => Promise<void>,
): Promise<void> {
  using client = await SelfTestClient.connect(socket);
  const size = BigInt(advertisedSize(SIZE));
  if (client.size !== size) throw new Error(`the disk has ${client.size} bytes instead of ${size}`);
  await talk(client);
  await client.disconnect();
}

async function writeAll(client: SelfTestClient, disk: Uint8Array): Promise<void> {
  const write = ([offset, length]: Part) => {
    client.write(offset, disk.subarray(offset, offset + length));
  };
  for (const part of WRITES.slice(0, -1)) write(part);
  await client.settle();
  client.writeZeroes(...ZEROES[0]);
  for (const part of WRITES.slice(-1)) write(part);
  client.writeZeroes(...ZEROES[1]);
  await client.flush();
}

/** @returns the digest of what it has got */
async function readAll(client: SelfTestClient): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (let offset = 0, turn = 0; offset < SIZE; turn++) {
    const length = Math.min(READS[turn % READS.length] as number, SIZE - offset);
    hash.update(await client.read(offset, length));
    offset += length;
  }
  return hash.digest("hex");
}

function digestOf(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}
