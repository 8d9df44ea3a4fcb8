/**
 * Streams far larger than memory, in flat memory. The size of the first is in the environment:
 *
 *     NBD_STREAMING_TEST_SIZE=1T bun test test/e2e/large.test.ts
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parseSize } from "../../src/library/size.ts";
import type { RawClient } from "../support/nbd-client.ts";
import { DATA, type SinkChoice, Trial } from "../support/trial.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const SIZE = Number(parseSize("size", process.env.NBD_STREAMING_TEST_SIZE ?? "64G"));
/** Generous: 1 TiB through a FIFO takes minutes where pipes are small. */
const LIMIT = 30 * 60_000;
/** How much memory may grow. */
const GROWTH = 20 * MiB;
/** Until here, memory grows because parts of the program run for the first time. */
const WARM_UP = Math.min(8 * GiB, SIZE / 4);

/** What a process has in memory, in bytes. */
function memoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^VmRSS:\s*([0-9]+) kB$/m.exec(status)?.[1]) * KiB;
}

/** 1 MiB of data at the start of every GiB, and zeroes for the rest. */
async function writeIslands(client: RawClient, each: (at: number) => void): Promise<void> {
  for (let at = 0; at < SIZE; at += GiB) {
    each(at);
    expect(await client.write(at, DATA.subarray(0, MiB))).toBe(0);
    expect(await client.writeZeroes(at + MiB, GiB - MiB)).toBe(0);
  }
}

describe(`a stream of ${SIZE} bytes`, () => {
  const sinks: [string, SinkChoice][] = [
    ["a device", { path: "/dev/null" }],
    ["a FIFO whose reader counts", { fifo: "exec wc -c" }],
  ];

  test.each(sinks)(
    "goes to %s in flat memory",
    async (_, sink) => {
      await using trial = await Trial.serve(sink);
      using client = await trial.client();
      const memory: number[] = [];
      const since = performance.now();
      await writeIslands(client, (at) => {
        if (at >= WARM_UP) memory.push(memoryOf(trial.program.process.pid));
      });
      const [early = 0] = memory;
      const late = Math.max(...memory.slice(-8));
      client.disconnect();
      await trial.program.process.exited;
      const { status, stderr } = await trial.program.ended();
      const seconds = (performance.now() - since) / 1000;
      expect(status, stderr).toBe(0);
      expect(stderr).toMatch(new RegExp(` ${SIZE} bytes \\(.*: complete\n$`));
      if (!("path" in (sink as object))) expect(Number(await trial.sink.output())).toBe(SIZE);
      if (process.env.NBD_STREAMING_TEST_SIZE !== undefined) {
        console.log({ sink, seconds, earlyKiB: early / KiB, lateKiB: late / KiB });
      }
      expect(memory.length).toBeGreaterThan(4);
      expect(late - early).toBeLessThan(GROWTH);
    },
    LIMIT,
  );
});

test("a window takes no more memory than its size", async () => {
  const size = 64 * MiB;
  await using trial = await Trial.serve({ path: "/dev/null" }, { args: ["window=64M"] });
  const { pid } = trial.program.process;
  using client = await trial.client();
  // The first use of everything, the window included.
  expect(await client.write(0, DATA)).toBe(0);
  expect(await client.write(2 * DATA.length, DATA.subarray(0, MiB))).toBe(0);
  const before = memoryOf(pid);
  const start = 2 * DATA.length + MiB;
  const hold = async (from: number, to: number) => {
    for (let at = from; at < to; at += MiB) {
      expect(await client.write(start + at, DATA.subarray(0, MiB))).toBe(0);
    }
  };
  await hold(0, size - MiB);
  const full = memoryOf(pid);
  // All of it is held, so it really is in memory.
  expect(full - before).toBeGreaterThan(size / 2);
  expect(full - before).toBeLessThan(size + GROWTH);
  // What comes now pushes out what is there, many times over.
  await hold(size - MiB, 8 * size);
  // Bun collects its garbage when it likes; a leak would be seven times the size.
  expect(memoryOf(pid) - before).toBeLessThan(size + 2 * GROWTH);
  if (process.env.NBD_STREAMING_TEST_SIZE !== undefined) {
    const inKiB = (bytes: number) => bytes / KiB;
    console.log([before, full, memoryOf(pid)].map(inKiB));
  }
  client.disconnect();
  expect(await trial.program.ended()).toMatchObject({ status: 0 });
});
