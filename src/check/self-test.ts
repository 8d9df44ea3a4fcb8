/** Streams between a client and a FIFO, both in this process, in both directions. */
import { randomFillSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { mkfifo } from "../../ffi/pipe.ts";
import { NbdClient } from "../captive/nbd-client.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { messageOf } from "../errors.ts";
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

type Write = readonly [type: number, offset: number, length: number];

/** In this order: small ones, one that is spliced, one behind a gap, zeroes before data and at the end. */
const WRITES: readonly Write[] = [
  ...Array.from({ length: 32 }, (_, i): Write => [NBD_CMD_WRITE, i * 4 * KiB, 4 * KiB]),
  [NBD_CMD_WRITE, 128 * KiB, MiB],
  [NBD_CMD_WRITE, 2 * MiB + 777, 64 * KiB],
  [NBD_CMD_WRITE_ZEROES, 3 * MiB, MiB],
  [NBD_CMD_WRITE, 4 * MiB, 512 * KiB + 1],
  [NBD_CMD_WRITE_ZEROES, 5 * MiB, SIZE - 5 * MiB],
];

/** Bytes of the read requests, in turn: through memory, and spliced. */
const READS = [4 * KiB, 4 * KiB, 64 * KiB, 512 * KiB + 1];

type Talk = (client: NbdClient) => Promise<void>;

/** Tests both directions. Never throws. */
export async function selfTests(context: CheckContext): Promise<readonly Item[]> {
  const found = new ItemList("self-test");
  for (const [parameter, test] of [
    ["pipe", testWriting],
    ["read", testReading],
  ] as const) {
    let folder: PrivateFolder | undefined;
    try {
      folder = new PrivateFolder();
      const { socket } = folder;
      const fifo = folder.file("self-test.fifo");
      mkfifo(fifo, 0o600);
      await test(fifo, (talk) => serveOne({ [parameter]: fifo }, socket, context, talk));
      const text = `${SIZE} bytes went through a private server and a FIFO unchanged`;
      found.add("ok", `${parameter}=`, text);
    } catch (error) {
      found.add("failed", `${parameter}=`, messageIn(error, context.vocabulary));
    } finally {
      folder?.remove();
    }
  }
  return found.items;
}

async function testWriting(fifo: string, serve: (talk: Talk) => Promise<void>): Promise<void> {
  const disk = Buffer.alloc(SIZE);
  const arrived = readFile(fifo);
  // When the stream fails, its own error is reported.
  arrived.catch(() => {});
  await serve(async (client) => {
    for (const [type, offset, length] of WRITES) {
      const hasData = type === NBD_CMD_WRITE;
      const data = hasData ? randomFillSync(disk.subarray(offset, offset + length)) : undefined;
      client.send(type, offset, length, data);
    }
    client.send(NBD_CMD_FLUSH, 0, 0);
    await client.awaitReplies();
  });
  if (!disk.equals(await arrived)) throw new Error("what has arrived is not what was written");
}

async function testReading(fifo: string, serve: (talk: Talk) => Promise<void>): Promise<void> {
  const disk = randomFillSync(Buffer.alloc(SIZE));
  await serve(async (client) => {
    // When the stream fails, its own error is reported.
    writeFile(fifo, disk).catch(() => {});
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
  endpoint: Pick<ServeOptions, "pipe" | "read">,
  socket: string,
  { stopSignal, workerUrl, log, vocabulary }: CheckContext,
  talk: Talk,
): Promise<void> {
  const options: ServeOptions = {
    ...endpoint,
    size: SIZE,
    listen: { kind: "unix", path: socket },
    signal: AbortSignal.any([stopSignal.stop, AbortSignal.timeout(LIMIT)]),
    workerUrl,
  };
  const streaming = startServe(() => resolveServe(options), vocabulary);
  streaming.on("message", ({ text }) => log.verbose(text));
  let problem: unknown;
  streaming.once("listening", async () => {
    try {
      using client = await NbdClient.connect({ path: socket });
      const size = BigInt(advertisedSize(SIZE));
      if (client.size !== size) throw new Error(`the disk has ${client.size} bytes, not ${size}`);
      await talk(client);
      await client.disconnect();
    } catch (error) {
      problem = error;
      streaming.stop();
    }
  });
  await streaming.catch((error: unknown) => {
    const client = problem === undefined ? "" : `; its client: ${messageOf(problem)}`;
    const hint = "is there a sandbox (seccomp, gVisor) that forbids a system call?";
    throw new Error(`${messageIn(error, vocabulary)}${client}; ${hint}`);
  });
}
