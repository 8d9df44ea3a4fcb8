/** `serve --reconnect` with `read=`: clients whose connection is lost come back and read again. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { LIMIT } from "../support/limit.ts";
import { command, eventually } from "../support/program.ts";
import type { ReadClient } from "../support/read-client.ts";
import { DATA, ReadTrial } from "../support/read-trial.ts";
import { GATE } from "../support/base-trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const FIFO = { fifo: "cat data" };

/** Far longer than any of these tests takes. */
const PATIENT = { args: ["size=8M", "window=8M", "--reconnect=60"] };
/** For clients that do not come back. */
const BRIEF = { args: ["size=8M", "window=8M", "--reconnect=0.5"] };
/** For those that do, and then are slow or lost again: enough to come back in on a busy machine. */
const SECONDS = { args: ["size=8M", "window=8M", "--reconnect=2"] };

const part = (from: number, to: number) => DATA.subarray(from, to);

/** Hangs up, and waits until it is noticed. */
async function hangUp(trial: ReadTrial, client: ReadClient): Promise<void> {
  client.hangUp();
  await trial.program.saying(/a client was lost; it has/);
}

/** How often a client was lost. */
function lost(trial: ReadTrial): number {
  return trial.program.stderr.split("a client was lost; it has").length - 1;
}

/** Asks, takes so many bytes of the reply, and hangs up. */
async function drop(
  trial: ReadTrial,
  client: ReadClient,
  at: number,
  length: number,
  took: number,
) {
  client.ask(at, length);
  await client.raw.receive(took);
  client.raw.socket.pause();
  await trial.settled();
  await hangUp(trial, client);
}

const REPLIES = [
  { structured: false, length: 4 * KiB, took: 1000 },
  { structured: true, length: 4 * KiB, took: 0 },
  { structured: false, length: MiB, took: 700_000 },
  { structured: true, length: MiB, took: 700_000 },
  { structured: false, length: 6 * MiB, took: 16 },
  { structured: true, length: 6 * MiB, took: 5 * MiB },
];

describe.each(REPLIES)(
  "a client lost $took bytes into the reply to a READ of $length, structured: $structured,",
  ({ structured, length, took }) => {
    const begun = 2 * MiB;

    test("repeats it, and gets every byte", async () => {
      await using trial = await ReadTrial.serve(FIFO, PATIENT);
      using client = await trial.reader(structured);
      expect((await client.readAll(0, begun, MiB)).error).toBe(0);
      await drop(trial, client, begun, length, took);
      using again = await trial.reader(structured);
      const { data } = await again.read(begun, length);
      expect(data.equals(part(begun, begun + length))).toBeTrue();
      const rest = await again.readAll(begun + length, 8 * MiB, MiB);
      expect(rest.data.equals(part(begun + length, 8 * MiB))).toBeTrue();
      again.disconnect();
      await trial.completes(8 * MiB);
    });

    test("has truncated the stream if it does not come back", async () => {
      await using trial = await ReadTrial.serve(FIFO, BRIEF);
      using client = await trial.reader(structured);
      expect((await client.readAll(0, begun, MiB)).error).toBe(0);
      client.ask(begun, length);
      await client.raw.receive(took);
      // Nothing else is waited for: by then, its time may be over.
      client.hangUp();
      await trial.fails({ status: 4, message: /truncated: a client left without NBD_CMD_DISC/ });
    });
  },
);

test("a client that is lost while it waits for the writer finds everything again", async () => {
  const fifo = `head -c ${3 * MiB + 1000} data; ${GATE}; tail -c +${3 * MiB + 1001} data`;
  await using trial = await ReadTrial.serve({ fifo }, PATIENT);
  using client = await trial.reader();
  expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
  client.ask(2 * MiB, 4 * MiB);
  await trial.settled();
  await hangUp(trial, client);
  using again = await trial.reader();
  again.ask(2 * MiB, 4 * MiB);
  await trial.settled();
  trial.openGate();
  expect((await again.answer(2 * MiB, 4 * MiB)).data.equals(part(2 * MiB, 6 * MiB))).toBeTrue();
  expect((await again.readAll(6 * MiB, 8 * MiB, MiB)).error).toBe(0);
  again.disconnect();
  await trial.completes(8 * MiB);
});

test("a client with several READs in flight repeats all of them", async () => {
  await using trial = await ReadTrial.serve(FIFO, PATIENT);
  using client = await trial.reader();
  expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
  for (let at = 2 * MiB; at < 8 * MiB; at += 64 * KiB) client.ask(at, 64 * KiB);
  await client.raw.receive(2 * MiB + 5000);
  await hangUp(trial, client);
  using again = await trial.reader();
  for (let at = 2 * MiB; at < 8 * MiB; at += 64 * KiB) again.ask(at, 64 * KiB);
  for (let at = 2 * MiB; at < 8 * MiB; at += 64 * KiB) {
    expect((await again.answer(at, 64 * KiB)).data.equals(part(at, at + 64 * KiB))).toBeTrue();
  }
  again.disconnect();
  await trial.completes(8 * MiB);
});

test("a client that comes back in time may take as long as it wants", async () => {
  await using trial = await ReadTrial.serve(FIFO, SECONDS);
  using client = await trial.reader();
  expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
  await hangUp(trial, client);
  using again = await trial.reader();
  expect((await again.read(MiB, 2 * MiB)).data.equals(part(MiB, 3 * MiB))).toBeTrue();
  // Slow on purpose: longer than what it had to come back.
  await Bun.sleep(2500);
  expect(
    (await again.readAll(3 * MiB, 8 * MiB, MiB)).data.equals(part(3 * MiB, 8 * MiB)),
  ).toBeTrue();
  again.disconnect();
  await trial.completes(8 * MiB);
});

test("a client of a disk of no bytes comes back, too", async () => {
  await using trial = await ReadTrial.serve({ fifo: ":" }, { args: ["size=0", "--reconnect=60"] });
  using client = await trial.reader();
  await hangUp(trial, client);
  using again = await trial.reader();
  again.disconnect();
  await trial.completes(0);
});

test("somebody who only asks questions is not the client that comes back", async () => {
  await using trial = await ReadTrial.serve(FIFO, BRIEF);
  using client = await trial.reader();
  expect((await client.readAll(0, 8 * MiB, MiB)).error).toBe(0);
  await hangUp(trial, client);
  await command(["nbdinfo", `nbd+unix:///?socket=${trial.socket}`]);
  await trial.fails({ status: 4, message: /truncated: a client left without/, bytes: 8 * MiB });
});

test("a client that comes back, and is lost again before anything has moved, is missed again", async () => {
  await using trial = await ReadTrial.serve(FIFO, SECONDS);
  for (const from of [0, 6 * MiB]) {
    using client = await trial.reader();
    expect((await client.readAll(from, 7 * MiB, MiB)).error).toBe(0);
    client.ask(7 * MiB, MiB);
    await client.raw.receive(16);
    client.hangUp();
    await eventually(() => lost(trial) === (from === 0 ? 1 : 2), "the loss to be noticed");
  }
  // Whether the last MiB went by, hangs on how much of it the kernel took.
  await trial.fails({ status: 4, message: /truncated: a client left without/ });
});

test("a client that comes back, and is lost while it waits, is missed with --no-pad, too", async () => {
  const fifo = `head -c ${3 * MiB} data; ${GATE}`;
  const args = ["size=8M", "window=8M", "--reconnect=2", "--no-pad"];
  await using trial = await ReadTrial.serve({ fifo }, { args });
  for (const times of [1, 2]) {
    using client = await trial.reader();
    if (times === 1) expect((await client.readAll(0, 3 * MiB, MiB)).error).toBe(0);
    client.ask(3 * MiB, MiB);
    await trial.settled();
    client.hangUp();
    await eventually(() => lost(trial) === times, "the loss to be noticed");
  }
  await trial.fails({ status: 4, message: /truncated: a client left without/, bytes: 3 * MiB });
});

test("what was on its way is kept without window=, too", async () => {
  const args = ["size=8M", "--reconnect=60"];
  await using trial = await ReadTrial.serve(FIFO, { args });
  using client = await trial.reader(true);
  expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
  await drop(trial, client, 2 * MiB, 4 * MiB, 3 * MiB);
  using again = await trial.reader(true);
  expect((await again.readAll(2 * MiB, 8 * MiB, 4 * MiB)).error).toBe(0);
  again.disconnect();
  await trial.completes(8 * MiB);
});
