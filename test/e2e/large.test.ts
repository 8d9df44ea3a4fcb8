/**
 * Streams far larger than memory, in flat memory. The size of the first is in the environment:
 *
 *     NBD_STREAMING_TEST_SIZE=1T bun test test/e2e/large.test.ts
 */
import { describe, expect, test } from "bun:test";
import { parseSize } from "../../src/size.ts";
import type { RawClient } from "../support/nbd-client.ts";
import { anonymousMemory } from "../support/proc.ts";
import { DATA, type SinkChoice, Trial } from "../support/trial.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const SIZE = Number(parseSize(process.env.NBD_STREAMING_TEST_SIZE ?? "64G"));
/**
 * Generous: 1 TiB through a FIFO takes minutes where pipes are small. A leak fails every time; a collector that
 * happens to be late does not.
 */
const MEMORY = { timeout: 30 * 60_000, retry: 2 };
/** How much memory may grow. */
const GROWTH = 10 * MiB;
/** Until here, memory grows because parts of the program run for the first time. */
const WARM_UP = Math.min(8 * GiB, SIZE / 4);

/** Looks at memory of which the lowest figure counts. */
const LOOKS = 16;

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
      await writeIslands(client, (at) => {
        if (at >= WARM_UP) memory.push(anonymousMemory(trial.program.process.pid));
      });
      // The lowest ones: when garbage is collected is up to Bun, and later on a busy machine. What is
      // never freed is in all of them.
      const early = Math.min(...memory.slice(0, LOOKS));
      const late = Math.min(...memory.slice(-LOOKS));
      client.disconnect();
      await trial.program.process.exited;
      const { status, stderr } = await trial.program.ended();
      expect(status, stderr).toBe(0);
      expect(stderr).toMatch(new RegExp(` ${SIZE} bytes \\(.*: complete\n$`));
      if (!("path" in (sink as object))) expect(Number(await trial.sink.output())).toBe(SIZE);
      if (process.env.NBD_STREAMING_TEST_SIZE !== undefined) {
        console.log({ sink, earlyKiB: early / KiB, lateKiB: late / KiB });
      }
      expect(memory.length).toBeGreaterThan(LOOKS);
      expect(late - early).toBeLessThan(GROWTH);
    },
    MEMORY,
  );
});

test(
  "a window takes no more memory than its size",
  async () => {
    const size = 64 * MiB;
    await using trial = await Trial.serve({ path: "/dev/null" }, { args: ["window=64M"] });
    const { pid } = trial.program.process;
    using client = await trial.client();
    // The first use of everything, the window included.
    expect(await client.write(0, DATA)).toBe(0);
    expect(await client.write(2 * DATA.length, DATA.subarray(0, MiB))).toBe(0);
    const before = anonymousMemory(pid);
    const start = 2 * DATA.length + MiB;
    /** Writes it, and looks at the memory after each of the last writes. @returns the lowest figure */
    const hold = async (from: number, to: number) => {
      const memory: number[] = [];
      for (let at = from; at < to; at += MiB) {
        expect(await client.write(start + at, DATA.subarray(0, MiB))).toBe(0);
        memory.push(anonymousMemory(pid));
      }
      return Math.min(...memory.slice(-LOOKS));
    };
    // What was held a few writes ago is in the lowest figure, what came since is not.
    const full = await hold(0, size - MiB);
    // All of it is held, so it really is in memory.
    expect(full - before).toBeGreaterThan(size / 2);
    expect(full - before).toBeLessThan(size + GROWTH);
    // What comes now pushes out what is there, many times over; a leak would be seven times the size, and
    // the collector may be late with the small things.
    const pushed = await hold(size - MiB, 8 * size);
    expect(pushed - before).toBeLessThan(2 * size);
    if (process.env.NBD_STREAMING_TEST_SIZE !== undefined) {
      const inKiB = (bytes: number) => bytes / KiB;
      console.log([before, full, pushed].map(inKiB));
    }
    client.disconnect();
    expect(await trial.program.ended()).toMatchObject({ status: 0 });
  },
  MEMORY,
);
