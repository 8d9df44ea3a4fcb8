/** Real clients whose writes do not make a stream: the exact error. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { bench, convert, digestOf, filled, qemuIo } from "../support/client-commands.ts";
import { type Image, qcow2Image } from "../support/images.ts";
import { type Ended, runProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** Runs of a client that may happen to write in order. */
const ATTEMPTS = 25;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await qcow2Image(folder.file("disk.qcow2"), 64 * MiB);
});

describe("out of order without a window", () => {
  test.each([
    {
      client: "qemu-img convert -W",
      args: () => convert("-W", disk.path),
      sha256: () => disk.sha256,
    },
    {
      client: "qemu-img convert -W -m 16",
      args: () => convert("-W", "-m", "16", disk.path),
      sha256: () => disk.sha256,
    },
    {
      client: "qemu-img bench -w, 16 requests at a time,",
      args: () => bench("-d", "16", "-c", "1000", "-s", "65536", "--pattern=7"),
      sha256: () => digestOf(filled(7, 1000 * 65536)),
    },
  ])("$client is told which write came late, and what helps", async ({ args, sha256 }) => {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const { status, stderr, digest } = await run(args());
      if (status === 0) {
        // As it happened, it was in order.
        expect(digest).toBe(sha256());
        continue;
      }
      const late = lateWrite(stderr);
      expect(late.offset).toBeLessThan(late.head);
      expect(late.advice * MiB).toBeGreaterThanOrEqual(late.head - late.offset);
      expect(late.bytes).toBeLessThanOrEqual(late.head);
      expect(digest).not.toBe(sha256());
      return;
    }
    throw new Error(`the client was in order ${ATTEMPTS} times`);
  });

  test("a write behind the stream is named to the byte", async () => {
    const { status, stderr } = await run(qemuIo("write 4M 64k", "write 1M 512k"));
    expect(status).not.toBe(0);
    expect(lateWrite(stderr)).toEqual({
      length: 512 * 1024,
      offset: MiB,
      head: 4 * MiB + 64 * 1024,
      advice: 64,
      bytes: 4 * MiB + 64 * 1024,
    });
  });

  test("a window that is too small takes the first gap for a hole, and says so when it was none", async () => {
    const late = ["write -P 1 4M 1M", "write -P 2 8M 1M", "write -P 3 0 1M"];
    const { status, stderr } = await run(["window=1M", ...qemuIo(...late)]);
    expect(status).not.toBe(0);
    expect(lateWrite(stderr)).toMatchObject({ length: MiB, offset: 0, head: 5 * MiB });
  });
});

test.each([
  { window: [], late: ["write 0 1M", "write 512k 64k"] },
  { window: ["window=64M"], late: ["write 0 1M", "write 4M 1M", "write 512k 64k"] },
])("what was in order and is written again has no window, and is told what has", async (client) => {
  const words = [...client.window, ...qemuIo(...client.late)];
  const { status, stderr } = await run(words);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/the client writes again what is out; use --hold with spool=DIR, which /);
  expect(stderr).not.toMatch(/truncated: .*window=[0-9]/);
  expect((await run([`spool=${folder.path}`, "--hold", ...words])).status).toBe(0);
});

test("what is read back, and would be in a window, is told with that window", async () => {
  const words = ["write -P 1 1M 1M", "read -P 1 1M 64k"];
  const line = `qemu-io -f raw ${words.map((io) => `-c "${io}"`).join(" ")} "$nbd"`;
  const { status, stderr } = await run(["--", line]);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(
    /after NBD_CMD_READ of \d+ bytes at 1048576, which had gone by: window=64M has room for this$/m,
  );
  expect((await run(["window=64M", "--", line])).status).toBe(0);
});

test.each([
  { how: "qemu-img convert -O qcow2", window: [] },
  { how: "qemu-img convert -O qcow2 with a window", window: ["window=64M"] },
])("$how fails and is told what keeps what it reads back", async ({ window }) => {
  const words = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", `${disk.path}.raw`, "$nbd"];
  const { status, stderr } = await run([...window, "--", ...words]);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(
    /truncated: .*, which had gone by: use --hold with spool=DIR, which keeps that, or have it write /,
  );
  const held = await run([...window, `spool=${folder.path}`, "--hold", "--no-pad", "--", ...words]);
  expect(held.status, held.stderr).toBe(0);
});

/** Runs `run` with a reader, however it ends. */
async function run(args: readonly string[]): Promise<Ended & { readonly digest: string }> {
  using scratch = tempFolder();
  const fifo = scratch.file("stream.fifo");
  await using reader = digestFifo(fifo);
  const ended = await runProgram(["run", `pipe=${fifo}`, ...args]);
  return { ...ended, digest: await reader.sha256() };
}

/** What the last line tells about the write that was too late; the form of the line is checked. */
function lateWrite(stderr: string) {
  const told =
    /^nbd-streaming: error: (\d+) bytes .*: truncated: NBD_CMD_WRITE of (\d+) bytes at (\d+) lies behind the stream, which has reached byte (\d+): .*window=(\d+)M/m;
  expect(stderr).toMatch(told);
  const [bytes, length, offset, head, advice] = (told.exec(stderr) ?? []).slice(1).map(Number);
  return { bytes, length, offset, head, advice } as Record<
    "bytes" | "length" | "offset" | "head" | "advice",
    number
  >;
}
