/** A hundred streams in one server: all at once, and three of them with a fault. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../support/client-commands.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import type { RawClient } from "../support/nbd-client.ts";
import { openDescriptors } from "../support/proc.ts";
import { command, eventually, start } from "../support/program.ts";
import { KEPT, SeveralTrial } from "../support/several-trial.ts";
import { tempFolder } from "../support/temp.ts";

/** NBD_STREAMING_EXPORTS=500 is for a longer look. */
const COUNT = Number(process.env.NBD_STREAMING_EXPORTS ?? 100);

setDefaultTimeout(LIMIT + COUNT * 1000);

const KiB = 1024;

/** Clients that are at it at the same time. */
const AT_ONCE = 25;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

interface One {
  readonly name: string;
  readonly data: Buffer;
}

/** From 64 KiB to 1 MiB, no two the same. */
const ALL: readonly One[] = Array.from({ length: COUNT }, (_, i) => ({
  name: `disk${i}`,
  data: pseudoRandom(64 * KiB * (1 + ((i * 7) % 16)), i + 1),
}));

/** Does the work for all of them, some at a time. */
async function forEach(all: readonly One[], work: (one: One) => Promise<void>): Promise<void> {
  const left = all.values();
  const worker = async () => {
    for (const one of left) await work(one);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Writes until an error. @returns true if there was none */
async function write(client: RawClient, data: Buffer): Promise<boolean> {
  for (let at = 0; at < data.length; at += 64 * KiB) {
    if ((await client.write(at, data.subarray(at, at + 64 * KiB))) !== 0) return false;
  }
  return true;
}

const words = (own: (one: One) => readonly string[]) =>
  ALL.flatMap((one) => ["-e", one.name, `size=${one.data.length}`, ...own(one)]);

function requireWhole(trial: SeveralTrial, names: readonly One[]): void {
  for (const { name, data } of names) {
    expect(digestOf(trial.output(name)), name).toBe(digestOf(data));
    expect(trial.isWhole(name), name).toBeTrue();
  }
}

test(`${COUNT} clients write ${COUNT} streams at the same time, and each is what its client has sent`, async () => {
  await using trial = await SeveralTrial.serve(() => [`pipe=${KEPT}`, ...words(() => [])]);
  // All are connected before the first one writes.
  const clients = new Map<string, RawClient>();
  try {
    await forEach(ALL, async ({ name }) => void clients.set(name, await trial.clientOf(name)));
    const results = await Promise.all(
      ALL.map(({ name, data }) => write(clients.get(name) as RawClient, data)),
    );
    expect(results).toEqual(ALL.map(() => true));
    for (const client of clients.values()) client.disconnect();
    const { stderr } = await trial.endsWith(0);
    requireWhole(trial, ALL);
    expect(stderr).toEndWith(`nbd-streaming: ${COUNT} of ${COUNT} streams complete\n`);
  } finally {
    for (const client of clients.values()) client[Symbol.dispose]();
  }
});

test(`nbdcopy writes each of ${COUNT} streams`, async () => {
  const inputs = folder.file("inputs");
  mkdirSync(inputs);
  for (const { name, data } of ALL) await Bun.write(join(inputs, name), data);
  await using trial = await SeveralTrial.serve(() => [`pipe=${KEPT}`, ...words(() => [])]);
  await forEach(ALL, async ({ name }) => {
    await command(["nbdcopy", join(inputs, name), trial.uri(name)]);
  });
  await trial.endsWith(0);
  requireWhole(trial, ALL);
});

describe("with a client that is killed, a reader that is killed, and a sink that is full,", () => {
  const [killed, deserted, full] = [ALL[3], ALL[40], ALL[77]] as [One, One, One];
  const broken = new Set([killed, deserted, full]);

  test(`${COUNT - broken.size} of ${COUNT} streams are whole, and three lines say what happened to the others`, async () => {
    const own = (trial: SeveralTrial) => (one: One) => {
      if (one === deserted) return [`pipe=${trial.ownFile("fifo")}`];
      if (one === full) return ["pipe=/dev/full"];
      return [];
    };
    await using trial = await SeveralTrial.serve((place) => [`pipe=${KEPT}`, ...words(own(place))]);
    const { pid } = trial.program.process;
    const read = 'exec < "$0"; echo open >&2; head -c 4096 > /dev/null; echo read >&2; sleep 600';
    await using reader = start(["sh", "-c", read, trial.ownFile("fifo")], { group: true });
    await reader.saying(/open/);
    await forEach([...broken], async (one) => {
      using client = await trial.clientOf(one.name);
      if (one === killed) {
        expect(await client.write(0, one.data.subarray(0, 4096))).toBe(0);
        // Its command is killed then, wherever it is.
        await eventually(() => trial.output(one.name).length === 4096, "what was written");
        // Without NBD_CMD_DISC.
        return client.socket.destroy() as never;
      }
      if (one === deserted) {
        expect(await client.write(0, one.data.subarray(0, 8192))).toBe(0);
        await reader.saying(/read/);
        process.kill(-reader.process.pid, "SIGKILL");
        await reader.ended();
        expect(await client.write(8192, one.data.subarray(8192))).not.toBe(0);
        return;
      }
      expect(await write(client, one.data)).toBeFalse();
    });
    const failed = /truncated: /g;
    await eventually(
      () => (trial.program.stderr.match(failed)?.length ?? 0) === broken.size,
      "the three streams to have failed",
    );
    const descriptors = openDescriptors(pid);
    const good = ALL.filter((one) => !broken.has(one));
    await forEach(good, async ({ name, data }) => {
      using client = await trial.clientOf(name);
      expect(await write(client, data)).toBeTrue();
      client.disconnect();
      await client.closed();
    });
    const { stderr } = await trial.endsWith(4);
    requireWhole(trial, good);
    const errors = stderr.split("\n").filter((line) => line.includes("truncated: "));
    const line = (one: One) => errors.filter((error) => error.includes(` ${one.name}: `)).join();
    expect(errors).toHaveLength(broken.size);
    expect(line(killed)).toContain("a client left without NBD_CMD_DISC");
    expect(line(deserted)).toMatch(/reader/);
    expect(line(full)).toMatch(/No space left on device/);
    expect(trial.isWhole(killed.name)).toBeFalse();
    // The command was killed, perhaps before it had read all that was in its pipe.
    const begun = trial.output(killed.name);
    expect(begun.length).toBeLessThanOrEqual(4096);
    expect(begun.equals(killed.data.subarray(0, begun.length))).toBeTrue();
    expect(stderr).toEndWith(
      `nbd-streaming: error: ${COUNT - broken.size} of ${COUNT} streams complete\n`,
    );
    // No stream needs a hundred.
    expect(descriptors).toBeLessThan(COUNT * 10 + 100);
  });
});

test("streams that end give back what they had, while others go on", async () => {
  const some = ALL.slice(0, 20);
  const own = some.flatMap(({ name, data }) => ["-e", name, `size=${data.length}`]);
  await using trial = await SeveralTrial.serve(() => [`pipe=${KEPT}`, ...own]);
  const { pid } = trial.program.process;
  const [last, ...others] = some as [One, ...One[]];
  using client = await trial.clientOf(last.name);
  const ofPipes = () => {
    const ends = readFileSync(`/proc/${pid}/status`, "latin1");
    return { threads: Number(/^Threads:\s+(\d+)/m.exec(ends)?.[1]), open: openDescriptors(pid) };
  };
  const before = ofPipes();
  await forEach(others, async ({ name, data }) => {
    using one = await trial.clientOf(name);
    expect(await write(one, data)).toBeTrue();
    one.disconnect();
    await one.closed();
  });
  await eventually(
    () => (trial.program.stderr.match(/: complete$/gm)?.length ?? 0) === others.length,
    "the others to be complete",
  );
  const areClosed = () => ofPipes().open < before.open - 2 * others.length;
  await eventually(areClosed, "the others' descriptors to be closed");
  // The commands and their watchdogs.
  await eventually(() => trial.processes().length <= 4, "the others' commands to be gone");
  expect(await write(client, last.data)).toBeTrue();
  client.disconnect();
  await trial.endsWith(0);
  requireWhole(trial, some);
  expect(existsSync(trial.socket)).toBeFalse();
});
