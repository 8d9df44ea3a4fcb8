/** Streams between a client and a FIFO, both in this process, in both directions. */
import { randomFillSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { mkfifo } from "../../ffi/pipe.ts";
import { NbdClient } from "../captive/nbd-client.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { resolveServe, type ServeOptions } from "../library/options.ts";
import { startServe } from "../library/serve.ts";
import { messageIn } from "../messages/notice-error.ts";
import { NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "../protocol/constants.ts";
import { advertisedSize } from "../protocol/export.ts";
import type { CheckContext } from "./client.ts";
import { type Item, ItemList } from "./report.ts";

/** Milliseconds that a stream may take. */
const LIMIT = 30_000;

const KiB = 1024;
const MiB = 1024 * KiB;

/** The disk's length in bytes, which ends within a sector. */
const SIZE = 6 * MiB + 12_345;

/** [offset, length] */
type Part = readonly [number, number];

/** The writes before the first zeroes: small ones, one that is spliced, one behind a gap. */
const WRITES: readonly Part[] = [
  ...Array.from({ length: 32 }, (_, i): Part => [i * 4 * KiB, 4 * KiB]),
  [128 * KiB, MiB],
  [2 * MiB + 777, 64 * KiB],
];
const ZEROES: Part = [3 * MiB, MiB];
const LAST_WRITE: Part = [4 * MiB, 512 * KiB + 1];
const LAST_ZEROES: Part = [5 * MiB, SIZE - 5 * MiB];

/** Bytes of the read requests, in turn: through memory, and spliced. */
const READS = [4 * KiB, 4 * KiB, 64 * KiB, 512 * KiB + 1];

/** Tests both directions. Never throws. */
export async function selfTests(context: CheckContext): Promise<readonly Item[]> {
  const found = new ItemList("self-test");
  for (const [name, test, what] of [
    ["pipe=", testWriting, "bytes with gaps and zeroes"],
    ["read=", testReading, "bytes"],
  ] as const) {
    let folder: PrivateFolder | undefined;
    try {
      folder = new PrivateFolder();
      mkfifo(fifoIn(folder), 0o600);
      await test(folder, context);
      found.add("ok", name, `${SIZE} ${what} went through a private server and a FIFO unchanged`);
    } catch (error) {
      found.add("failed", name, messageIn(error, context.vocabulary));
    } finally {
      folder?.remove();
    }
  }
  return found.items;
}

function fifoIn(folder: PrivateFolder): string {
  return folder.file("self-test.fifo");
}

async function testWriting(folder: PrivateFolder, context: CheckContext): Promise<void> {
  const disk = new Uint8Array(SIZE);
  for (const [offset, length] of [...WRITES, LAST_WRITE]) randomFillSync(disk, offset, length);
  const arrived = readFile(fifoIn(folder));
  // When the stream fails, its own error is reported.
  arrived.catch(() => {});
  await serveOne("pipe", folder, context, (client) => writeAll(client, disk));
  if (!(await arrived).equals(disk)) throw new Error("what has arrived is not what was written");
}

async function testReading(folder: PrivateFolder, context: CheckContext): Promise<void> {
  const disk = randomFillSync(Buffer.alloc(SIZE));
  await serveOne("read", folder, context, async (client) => {
    // When the stream fails, its own error is reported.
    writeFile(fifoIn(folder), disk).catch(() => {});
    for (let offset = 0, turn = 0; offset < SIZE; turn++) {
      const length = Math.min(READS[turn % READS.length] as number, SIZE - offset);
      const bytes = await client.read(offset, length);
      if (!disk.subarray(offset, offset + length).equals(bytes)) {
        throw new Error("what was read is not what was given");
      }
      offset += length;
    }
  });
}

/** Serves one stream to one client. @throws Error of the server or the client */
async function serveOne(
  parameter: "pipe" | "read",
  folder: PrivateFolder,
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
  talk: (client: NbdClient) => Promise<void>,
): Promise<void> {
  const options: ServeOptions = {
    [parameter]: fifoIn(folder),
    size: SIZE,
    listen: { kind: "unix", path: folder.socket },
    signal: AbortSignal.any([stopSignal.stop, AbortSignal.timeout(LIMIT)]),
    workerUrl,
  };
  const streaming = startServe(() => resolveServe(options), vocabulary);
  streaming.on("message", ({ text }) => log.verbose(text));
  let problem: unknown;
  streaming.once("listening", () => {
    connectAndTalk(folder.socket, talk).catch((error: unknown) => {
      problem = error;
      streaming.stop();
    });
  });
  await streaming.catch((error: unknown) => {
    throw problem ?? error;
  });
}

async function connectAndTalk(
  socket: string,
  talk: (client: NbdClient) => Promise<void>,
): Promise<void> {
  using client = await NbdClient.connect({ path: socket });
  const size = BigInt(advertisedSize(SIZE));
  if (client.size !== size) throw new Error(`the disk has ${client.size} bytes instead of ${size}`);
  await talk(client);
  await client.disconnect();
}

async function writeAll(client: NbdClient, disk: Uint8Array): Promise<void> {
  const write = ([offset, length]: Part) => {
    client.send(NBD_CMD_WRITE, offset, length, disk.subarray(offset, offset + length));
  };
  for (const part of WRITES) write(part);
  await client.awaitReplies();
  client.send(NBD_CMD_WRITE_ZEROES, ...ZEROES);
  write(LAST_WRITE);
  client.send(NBD_CMD_WRITE_ZEROES, ...LAST_ZEROES);
  client.send(NBD_CMD_FLUSH, 0, 0);
  await client.awaitReplies();
}
