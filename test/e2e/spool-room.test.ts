/** `spool=`: how much memory and how much of the disk is taken for what comes out of order. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { createHash } from "node:crypto";
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_READ,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_STRUCTURED_REPLY,
} from "../../src/protocol/constants.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { eventually } from "../support/program.ts";
import { SHA256 } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { Trial } from "../support/trial.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

/** What is written; the piece at a position begins with its number. */
const PIECE = pseudoRandom(MiB, 6);

function piece(at: number, length: number): Buffer {
  const bytes = Buffer.from(PIECE.subarray(0, length));
  bytes.writeUInt32BE(at / 512);
  return bytes;
}

/** SHA-256 of a stream of such pieces. */
function digestOf(size: number, length: number): string {
  const hash = createHash("sha256");
  for (let at = 0; at < size; at += length) hash.update(piece(at, length));
  return hash.digest("hex");
}

async function write(client: RawClient, at: number, length: number): Promise<void> {
  expect(await client.write(at, piece(at, length))).toBe(0);
}

/** The most memory that a process has had so far, in bytes. */
function peak(pid: number): number {
  return (
    Number(/VmHWM:\s+([0-9]+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * KiB
  );
}

/** Bytes that the spool takes on the disk: it is only among the program's descriptors. */
function spooled(pid: number, folder: string): number {
  const all = readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  const [file, ...others] = all.filter((fd) => target(fd).startsWith(`${folder}/`));
  expect(others).toEqual([]);
  return statSync(file as string).blocks * 512;
}

function target(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    // It has just been closed.
    return "";
  }
}

const READER = { exec: `${SHA256} > part` };

/** Has a stream written piece by piece. @returns the most memory that it took */
async function peakOf(args: string[], size: number, length: number, order: (i: number) => number) {
  await using trial = await Trial.serve(READER, { args: [...args, `size=${size}`] });
  using client = await trial.client();
  for (let i = 0; i < size / length; i++) await write(client, order(i) * length, length);
  const most = peak(trial.program.process.pid);
  client.disconnect();
  expect((await trial.program.ended()).status).toBe(0);
  expect((await trial.sink.output()).toString().slice(0, 64)).toBe(digestOf(size, length));
  return most;
}

test.each([
  { what: "large requests, backwards,", size: 192 * MiB, length: MiB, window: 0 },
  { what: "large requests, backwards,", size: 192 * MiB, length: MiB, window: 16 },
  { what: "small requests, in no order,", size: 64 * MiB, length: 4 * KiB, window: 32 },
])(
  "for $what into a window of $window MiB, memory grows by that, and hardly more",
  async ({ size, length, window }) => {
    using folder = tempFolder();
    const count = size / length;
    const backwards = (i: number) => count - 1 - i;
    // Each once, as it has no divisor in common with the count.
    const scattered = (i: number) => (i * 9973 + 1) % count;
    const plain = await peakOf([], size, length, (i) => i);
    const args = [`spool=${folder.path}`, `window=${window}M`];
    const most = await peakOf(args, size, length, length === MiB ? backwards : scattered);
    expect((most - plain) / MiB).toBeLessThan(window + 16);
  },
);

test("the disk takes what is out of order and not out, and hardly more, however long the stream", async () => {
  using folder = tempFolder();
  // Of each two parts, the second one comes first.
  const [part, size] = [24 * MiB, 240 * MiB];
  const args = [`spool=${folder.path}`, "window=1M", `size=${size}`];
  await using trial = await Trial.serve(READER, { args });
  const { pid } = trial.program.process;
  using client = await trial.client();
  let most = 0;
  for (let start = 0; start < size; start += 2 * part) {
    for (const from of [start + part, start]) {
      for (let at = from; at < from + part; at += MiB) {
        await write(client, at, MiB);
        most = Math.max(most, spooled(pid, folder.path));
      }
    }
    expect(readdirSync(folder.path)).toEqual([]);
  }
  expect(most).toBeGreaterThan(part - 2 * MiB);
  expect((most - part) / MiB).toBeLessThan(64);
  // When all is out, only what is less than a unit is left.
  await eventually(() => spooled(pid, folder.path) <= 16 * MiB, "the room to be given back");
  client.disconnect();
  expect((await trial.program.ended()).status).toBe(0);
  expect((await trial.sink.output()).toString().slice(0, 64)).toBe(digestOf(size, MiB));
});

test("clients of a held disk that take nothing of large READs hardly take memory, in one piece or not", async () => {
  using folder = tempFolder();
  const args = ["--hold", `spool=${folder.path}`, `size=${32 * MiB}`];
  await using trial = await Trial.serve(READER, { args });
  using writer = await trial.client();
  for (let at = 0; at < 32 * MiB; at += MiB) await write(writer, at, MiB);
  const { pid } = trial.program.process;
  const before = peak(pid);
  using deaf = new DisposableStack();
  for (let i = 0; i < 20; i++) {
    const client = deaf.use(await RawClient.negotiating(trial.socket));
    await client.option(NBD_OPT_STRUCTURED_REPLY);
    client.send(encodeOption(NBD_OPT_EXPORT_NAME, new Uint8Array(0)));
    await client.receive(10);
    client.socket.pause();
    for (const flags of [NBD_CMD_FLAG_DF, 0]) {
      client.send(encodeRequest(NBD_CMD_READ, 0, 32 * MiB, { flags }));
    }
  }
  // Each of them has its turn before a later client is served.
  using other = await trial.client();
  expect(await other.read(0, 512)).toEqual(piece(0, 512));
  expect((peak(pid) - before) / MiB).toBeLessThan(100);
});

test("clients that ask for what is ahead, and go, take the memory of those that are there, and hardly more", async () => {
  using folder = tempFolder();
  const args = [`spool=${folder.path}`, "window=0", `size=${64 * MiB}`];
  await using trial = await Trial.serve(READER, { args });
  using writer = await trial.client();
  for (let at = 32 * MiB; at < 64 * MiB; at += MiB) await write(writer, at, MiB);
  const { pid } = trial.program.process;
  const before = peak(pid);
  const rounds = 8;
  const ended = () => trial.program.stderr.match(/client \d+ ended/g)?.length ?? 0;
  for (let round = 1; round <= rounds; round++) {
    {
      using deaf = new DisposableStack();
      for (let i = 0; i < 4; i++) {
        const client = deaf.use(await trial.client());
        client.socket.pause();
        client.send(encodeRequest(NBD_CMD_READ, 32 * MiB, 32 * MiB));
      }
      // Each of them has its turn before a later client is served.
      using other = await trial.client();
      expect(await other.read(32 * MiB, 512)).toEqual(piece(32 * MiB, 512));
    }
    await eventually(() => ended() === 5 * round, "all clients of the round to be gone");
  }
  // The allocator may take a moment to give what is free to others. By garbage collection alone it is three times 128.
  expect((peak(pid) - before) / MiB).toBeLessThan(2 * 4 * 32 + 32);
});
