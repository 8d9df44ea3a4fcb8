/** A disk that is held, at every kind of sink, and on file systems that can do less. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, statfsSync, statSync } from "node:fs";
import {
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOTSUP,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_OPT_EXPORT_NAME,
} from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { ask } from "../support/requests.ts";
import { SINKS } from "../support/sinks.ts";
import { NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { DATA, Trial } from "../support/trial.ts";
import { encodeOption } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIZE = 24 * MiB + 100;

const held = (size: number, ...more: readonly string[]) => [
  "--hold",
  "spool=.",
  `size=${size}`,
  ...more,
];

/** Writes here and there, some of it twice, and takes a part back. @returns the disk */
async function writeAnyhow(client: RawClient): Promise<Buffer> {
  const disk = Buffer.alloc(SIZE);
  const write = async (at: number, length: number, from: number) => {
    const data = DATA.subarray(from, from + length);
    data.copy(disk, at);
    expect(await client.write(at, data)).toBe(0);
  };
  await write(20 * MiB + 3, 2 * MiB, 0);
  await write(0, 100_000, 5000);
  await write(21 * MiB, 1000, 77);
  await write(8 * MiB, 4 * MiB, MiB);
  expect(await ask(client, NBD_CMD_WRITE_ZEROES, 9 * MiB, 2 * MiB)).toBe(0);
  disk.fill(0, 9 * MiB, 11 * MiB);
  await write(10 * MiB, 10, 0);
  await write(SIZE - 50, 50, 123);
  return disk;
}

describe.each(SINKS)("a %s", (sink) => {
  test("gets the disk when its client is done", async () => {
    await using trial = await Trial.serve(sink, { args: held(SIZE, "--checksum", "sha256") });
    const client = await trial.client();
    const disk = await writeAnyhow(client);
    client.disconnect();
    const { stderr } = await trial.completes(disk);
    expect(stderr).toContain(createHash("sha256").update(disk).digest("hex"));
  });

  test("gets nothing of a disk whose client is cut off", async () => {
    await using trial = await Trial.serve(sink, { args: held(SIZE) });
    const client = await trial.client();
    await writeAnyhow(client);
    client[Symbol.dispose]();
    const output = await trial.fails({ status: 4, message: /truncated/, bytes: 0 });
    expect(output.length).toBe(0);
  });
});

test("a file has holes where the disk has", async () => {
  await using trial = await Trial.serve("file", { args: held(SIZE) });
  const client = await trial.client();
  const disk = await writeAnyhow(client);
  client.disconnect();
  await trial.completes(disk);
  expect(statSync(trial.file("part")).blocks * 512).toBeLessThan(12 * MiB);
});

test.skipIf(Bun.which("nbdinfo") === null)(
  "an empty disk, and one to which nothing was written, come out (needs nbdinfo)",
  async () => {
    for (const size of [0, 100_000]) {
      await using trial = await Trial.run("command", ["nbdinfo", "--size", "$uri"], {
        args: held(size),
      });
      await trial.completes(Buffer.alloc(size));
      expect(trial.sink.committed).toBeTrue();
    }
  },
);

test.each([
  [[], 5000],
  [["size=100000", "--no-pad"], 5000],
  [["size=100000"], 100_000],
])("with %p, a disk that was written up to 5000 is %d bytes long", async (size, length) => {
  await using trial = await Trial.serve("command", { args: ["--hold", "spool=.", ...size] });
  const client = await trial.client();
  const disk = Buffer.alloc(length);
  for (const at of [4000, 0]) {
    DATA.copy(disk, at, at, at + 1000);
    expect(await client.write(at, DATA.subarray(at, at + 1000))).toBe(0);
  }
  client.disconnect();
  await trial.completes(disk);
});

/** What is offered, and a client in the transmission phase. */
async function offered(trial: Trial): Promise<{ flags: number; client: RawClient }> {
  const client = await RawClient.negotiating(trial.socket);
  client.send(encodeOption(NBD_OPT_EXPORT_NAME));
  return { flags: (await client.receive(10)).readUInt16BE(8), client };
}

const QUICK = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_FAST_ZERO;

describe("a file system", () => {
  test("that can do all has all of it offered", async () => {
    await using trial = await Trial.serve("command", { args: held(SIZE) });
    const { flags, client } = await offered(trial);
    expect(flags & QUICK).toBe(QUICK);
    expect(flags & NBD_FLAG_CAN_MULTI_CONN).toBe(NBD_FLAG_CAN_MULTI_CONN);
    const disk = await writeAnyhow(client);
    expect(await ask(client, NBD_CMD_TRIM, 0, 4096)).toBe(0);
    disk.fill(0, 0, 4096);
    client.disconnect();
    await trial.completes(disk);
  });

  test.skipIf(!STRACE_WORKS)(
    `that makes no holes has neither TRIM nor FAST_ZERO, and all else is right ${NEEDS_STRACE}`,
    async () => {
      const fault = "inject=fallocate:error=EOPNOTSUPP";
      const line = `exec strace -f -qq -o /dev/null -e trace=fallocate -e ${fault} "$@"`;
      await using trial = await Trial.serve("command", { args: held(SIZE), line });
      const { flags, client } = await offered(trial);
      expect(flags & QUICK).toBe(0);
      expect(flags & NBD_FLAG_SEND_WRITE_ZEROES).toBe(NBD_FLAG_SEND_WRITE_ZEROES);
      const disk = await writeAnyhow(client);
      for (const zeroFlags of [0, NBD_CMD_FLAG_NO_HOLE]) {
        const at = zeroFlags * MiB;
        expect(await ask(client, NBD_CMD_WRITE_ZEROES, at, 3 * MiB, zeroFlags)).toBe(0);
        disk.fill(0, at, at + 3 * MiB);
      }
      expect(await ask(client, NBD_CMD_TRIM, 20 * MiB, 4096)).toBe(NBD_EINVAL);
      client.disconnect();
      await trial.completes(disk);
    },
  );

  test.skipIf(!STRACE_WORKS)(
    `that makes no holes serves no client that zeroes quickly ${NEEDS_STRACE}`,
    async () => {
      const fault = "inject=fallocate:error=EOPNOTSUPP";
      const line = `exec strace -f -qq -o /dev/null -e trace=fallocate -e ${fault} "$@"`;
      await using trial = await Trial.serve("command", { args: held(SIZE), line });
      const { client } = await offered(trial);
      expect(await client.write(0, DATA.subarray(0, 4096))).toBe(0);
      const fast = await ask(client, NBD_CMD_WRITE_ZEROES, 0, 4096, NBD_CMD_FLAG_FAST_ZERO);
      expect(fast).toBe(NBD_EINVAL);
      client.disconnect();
      await trial.fails({ status: 4, message: /truncated/, bytes: 0 });
    },
  );

  const TMPFS = 0x01021994;
  const isTmpfs = existsSync("/dev/shm") && statfsSync("/dev/shm").type === TMPFS;

  test.skipIf(!isTmpfs)(
    "that has no quick zeroes with room says so, and has them all the same (skipped without a tmpfs)",
    async () => {
      const folder = mkdtempSync("/dev/shm/nbd-streaming-test-");
      try {
        const args = ["--hold", `spool=${folder}`, `size=${SIZE}`];
        await using trial = await Trial.serve("command", { args });
        const { flags, client } = await offered(trial);
        expect(flags & QUICK).toBe(QUICK);
        const disk = await writeAnyhow(client);
        const zero = (at: number, zeroFlags: number) =>
          ask(client, NBD_CMD_WRITE_ZEROES, at, 4 * MiB, zeroFlags);
        const room = NBD_CMD_FLAG_NO_HOLE;
        expect(await zero(8 * MiB, room | NBD_CMD_FLAG_FAST_ZERO)).toBe(NBD_ENOTSUP);
        expect(await client.read(8 * MiB, 1000)).toEqual(disk.subarray(8 * MiB, 8 * MiB + 1000));
        expect(await zero(8 * MiB, room)).toBe(0);
        disk.fill(0, 8 * MiB, 12 * MiB);
        expect(await zero(20 * MiB, NBD_CMD_FLAG_FAST_ZERO)).toBe(0);
        disk.fill(0, 20 * MiB, 24 * MiB);
        client.disconnect();
        await trial.completes(disk);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
