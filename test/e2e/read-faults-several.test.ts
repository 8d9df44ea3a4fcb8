/** Several clients of a stream that is read, and clients that leave before all of it was. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { command } from "../support/program.ts";
import { DATA, FEW_FORMS, FORMS, ReadTrial } from "../support/read-trial.ts";
import { ERROR, GATE } from "../support/base-trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const FILE = { path: "data" };

const part = (from: number, to: number) => DATA.subarray(from, to);

describe.each(FORMS)("with $form, two clients at once", ({ structured, piece }) => {
  test("are served in turn, and what they read is right", async () => {
    const size = Math.min(8 * MiB, 2 * MiB + 64 * piece);
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: [`size=${size}`] });
    using first = await trial.reader(structured);
    using second = await trial.reader(!structured);
    expect((await first.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    for (let at = 2 * MiB; at < size; at += 2 * piece) {
      const [one, other] = [at, at + piece] as const;
      first.ask(one, piece);
      await trial.settled();
      second.ask(other, piece);
      const answers = [await first.answer(one, piece), await second.answer(other, piece)];
      for (const [i, { data, error }] of answers.entries()) {
        expect(error).toBe(0);
        expect(data.equals(part(at + i * piece, at + (i + 1) * piece))).toBeTrue();
      }
    }
    for (const client of [first, second]) client.disconnect();
    await trial.completes(size);
  });

  test("wait for each other, and the second has its turn when the first dies", async () => {
    const fifo = `head -c ${2 * MiB} data; ${GATE}; tail -c +${2 * MiB + 1} data`;
    const args = ["size=8M", "window=2M", "--reconnect=60"];
    await using trial = await ReadTrial.serve({ fifo }, { args });
    using first = await trial.reader(structured);
    using second = await trial.reader(structured);
    expect((await first.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    first.ask(2 * MiB, piece);
    await trial.settled();
    second.ask(MiB, MiB);
    await trial.settled();
    first.hangUp();
    // What it has asked for has gone by, but is there.
    expect((await second.answer(MiB, MiB)).data.equals(part(MiB, 2 * MiB))).toBeTrue();
    trial.openGate();
    const { data } = await second.readAll(2 * MiB, 8 * MiB, MiB);
    expect(data.equals(part(2 * MiB, 8 * MiB))).toBeTrue();
    second.disconnect();
    await trial.completes(8 * MiB);
  });
});

test("a client that breaks the stream breaks it for the other, which is told the same", async () => {
  await using trial = await ReadTrial.serve(FILE);
  using first = await trial.reader(true);
  using second = await trial.reader(true);
  expect((await first.readAll(0, 4 * MiB, MiB)).error).toBe(0);
  const told = await second.read(2 * MiB, MiB);
  expect(told.error).toBe(ERROR.EIO);
  expect(await first.read(4 * MiB, MiB)).toEqual(told);
  for (const client of [first, second]) client.disconnect();
  await trial.fails({ status: 4, message: /truncated: NBD_CMD_READ of 1048576 bytes at 2097152 / });
});

describe("a client that says nothing", () => {
  test("and does not even negotiate stops nobody", async () => {
    await using trial = await ReadTrial.serve(FILE);
    using silent = await RawClient.connect(trial.socket);
    await silent.receive(18);
    using client = await trial.reader();
    expect((await client.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
    client.disconnect();
    await trial.completes(8 * MiB);
  });

  test("stops nobody from reading, and is waited for at the end", async () => {
    await using trial = await ReadTrial.serve(FILE);
    const silent = await trial.client();
    using client = await trial.reader();
    expect((await client.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
    client.disconnect();
    await trial.program.saying(/client 2 ended: disconnected/);
    expect(trial.program.process.exitCode).toBeNull();
    silent.socket.destroy();
    await trial.completes(8 * MiB);
  });
});

describe.each(FEW_FORMS)("with $form, a client that leaves early", ({ structured, piece }) => {
  async function half(args: readonly string[]) {
    const trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M", ...args] });
    using client = await trial.reader(structured);
    expect((await client.readAll(0, 4 * MiB, piece)).error).toBe(0);
    client.disconnect();
    await trial.program.saying(/client 1 ended: disconnected/);
    return trial;
  }

  test.each([[], ["--pad"]])("has truncated the stream %p", async (...args) => {
    await using trial = await half(args);
    await trial.fails({
      status: 4,
      message: /truncated: the clients have read up to byte 4194304 of size=8388608: .*--no-pad$/,
      bytes: 4 * MiB,
    });
  });

  test("has had what it wanted, with --no-pad", async () => {
    await using trial = await half(["--no-pad"]);
    await trial.completes(4 * MiB);
  });
});

test("a client that leaves within what is kept has ended nothing", async () => {
  await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M"] });
  for (const length of [512, MiB]) {
    using curious = await trial.reader();
    expect((await curious.read(0, length)).data.equals(part(0, length))).toBeTrue();
    curious.disconnect();
  }
  await command(["nbdinfo", `nbd+unix:///?socket=${trial.socket}`]);
  using client = await trial.reader();
  expect((await client.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
  client.disconnect();
  await trial.completes(8 * MiB);
});
