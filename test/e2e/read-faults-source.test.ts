/** What becomes of a stream that is read when its writer dies, stalls or never comes. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "node:net";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { start } from "../support/program.ts";
import { DATA, FORMS, ReadTrial } from "../support/read-trial.ts";
import { ERROR, GATE } from "../support/base-trial.ts";
import { made, type SourceChoice } from "../support/sources.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const WHOLE = ["size=8M"];

const DEATHS = [
  { where: "before any data", end: 0 },
  { where: "exactly between two requests", end: 3 * MiB },
  { where: "in the middle of a request", end: 3 * MiB + 1000 },
];

describe.each(FORMS)("with $form, a writer of a FIFO that is killed", ({ structured, piece }) => {
  test.each(DEATHS)(
    "$where is an error to the client",
    async ({ end }) => {
      const fifo = `head -c ${end} data; touch paused; ${GATE}`;
      await using trial = await ReadTrial.serve({ fifo }, { args: WHOLE });
      using client = await trial.reader(structured);
      const whole = end - (end % piece);
      expect(
        (await client.readAll(0, whole, piece)).data.equals(DATA.subarray(0, whole)),
      ).toBeTrue();
      client.ask(whole, piece);
      await made(trial.file("paused"));
      await trial.settled();
      await trial.source.kill();
      const { error, message } = await client.answer(whole, piece);
      expect(error).toBe(ERROR.EIO);
      if (structured) expect(message).toContain(`ended at byte ${end} of 8388608`);
      // For good, and for everything.
      expect((await client.read(0, 512)).error).toBe(ERROR.EIO);
      client.disconnect();
      await trial.fails({
        status: 4,
        message: new RegExp(
          `truncated: \\S+fifo ended at byte ${end} of size=8388608: .* use --pad$`,
        ),
        bytes: structured ? undefined : whole,
      });
    },
    // The program ends soon after its stream has failed, whether its client has heard of it or not.
    IN_TIME,
  );
});

const END = 3 * MiB + 1000;
const CLOSING: [string, SourceChoice][] = [
  ["FIFO", { fifo: `head -c ${END} data` }],
  ["standard input", { stdin: `head -c ${END} data` }],
  ["Unix socket", { unix: (connection) => void connection.end(DATA.subarray(0, END)) }],
  ["TCP connection", { tcp: (connection) => void connection.end(DATA.subarray(0, END)) }],
  ["command", { exec: `head -c ${END} data` }],
];

describe.each(CLOSING)("the writer of a %s that closes early", (_, choice) => {
  test("is an error to the client", async () => {
    await using trial = await ReadTrial.serve(choice, { args: WHOLE });
    using client = await trial.reader();
    const { error, data } = await client.readAll(0, 8 * MiB, MiB);
    expect([error, data.length]).toEqual([ERROR.EIO, 3 * MiB]);
    client.disconnect();
    const message = new RegExp(`truncated: .+ ended at byte ${END} of size=8388608: `);
    await trial.fails({ status: 4, message, bytes: 3 * MiB });
  });

  test("without size= is an error to a client that wants more, and its size is told", async () => {
    await using trial = await ReadTrial.serve(choice);
    await trial.program.saying(/the length of .* is not known: most clients that copy need size=/);
    using client = await trial.reader(true);
    expect((await client.readAll(0, END, MiB)).data.equals(DATA.subarray(0, END))).toBeTrue();
    const { error, message } = await client.read(END, 1);
    expect(error).toBe(ERROR.EIO);
    expect(message).toEndWith(`ended at byte ${END}, and the client wants more`);
    client.disconnect();
    const told = new RegExp(
      `truncated: .* ended at byte ${END}, and the client wants more: give size=${END} `,
    );
    await trial.fails({ status: 4, message: told });
  });
});

test("a writer that comes and goes without a word is an error, not somebody to wait for", async () => {
  await using trial = await ReadTrial.serve({ fifo: "exit 0" }, { args: WHOLE });
  await trial.source.ready();
  using client = await trial.reader();
  expect((await client.read(0, 512)).error).toBe(ERROR.EIO);
  client.disconnect();
  await trial.fails({ status: 4, message: /truncated: \S+fifo ended at byte 0 /, bytes: 0 });
});

describe("a TCP source that resets the connection", () => {
  /** Sends the first bytes, and keeps the connection for the test. */
  async function streaming(length: number, args = WHOLE) {
    const { promise, resolve } = Promise.withResolvers<Socket>();
    const tcp = (connection: Socket) => {
      connection.write(DATA.subarray(0, length));
      resolve(connection);
    };
    const trial = await ReadTrial.serve({ tcp }, { args });
    return { trial, connection: await promise };
  }

  test.each(FORMS)("in the middle is an error, with $form", async ({ structured, piece }) => {
    const { trial, connection } = await streaming(2 * MiB);
    await using _ = trial;
    using client = await trial.reader(structured);
    expect((await client.readAll(0, 2 * MiB, piece)).error).toBe(0);
    client.ask(2 * MiB, piece);
    await trial.settled();
    connection.resetAndDestroy();
    const { error, message } = await client.answer(2 * MiB, piece);
    expect(error).toBe(ERROR.EIO);
    if (structured) expect(message).toContain("with the stream at byte 2097152");
    client.disconnect();
    const why =
      /truncated: tcp:127.0.0.1:[0-9]+ failed \(.*reset.*\), with the stream at byte 2097152/;
    await trial.fails({ status: 4, message: why, bytes: 2 * MiB });
  });

  test("after all was read does no harm", async () => {
    const { trial, connection } = await streaming(2 * MiB, ["size=2M"]);
    await using _ = trial;
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    connection.resetAndDestroy();
    client.disconnect();
    await trial.completes(2 * MiB);
  });

  test("after all was read, with --exact, is an error to the last READ", async () => {
    const { trial, connection } = await streaming(2 * MiB, ["size=2M", "--exact"]);
    await using _ = trial;
    using client = await trial.reader();
    expect((await client.readAll(0, MiB, MiB)).error).toBe(0);
    client.ask(MiB, MiB);
    await trial.settled();
    connection.resetAndDestroy();
    expect((await client.answer(MiB, MiB)).error).toBe(ERROR.EIO);
    client.disconnect();
    await trial.fails({ status: 4, message: /truncated: tcp:.* failed .*reset/, bytes: MiB });
  });
});

describe("a writer that never comes", () => {
  const message = /truncated: nobody has opened \S+fifo for writing in 2 s: start its writer/;
  const args = ["--writer-timeout=2", "size=8M"];

  test("is given up by serve, with a client that waits", async () => {
    await using trial = await ReadTrial.serve({ fifo: undefined }, { args });
    using client = await trial.reader();
    client.ask(0, 512);
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test("is given up by serve, without a client", async () => {
    await using trial = await ReadTrial.serve({ fifo: undefined }, { args });
    await trial.fails({ status: 4, message, bytes: 0 });
  });

  test("is given up by run, with the command", async () => {
    const line = `trap '' TERM; qemu-io -r -f raw -c 'read 0 64k' "$uri"; sleep 60`;
    await using trial = await ReadTrial.run({ fifo: undefined }, [line], { args });
    await trial.fails({ status: 4, message, bytes: 0 });
  });
});

test("a writer that comes late is waited for, and said to be missing", async () => {
  await using trial = await ReadTrial.serve(
    { fifo: undefined },
    { args: [...WHOLE, "--writer-timeout=60"] },
  );
  using client = await trial.reader();
  using other = await trial.reader(true);
  client.ask(0, MiB);
  await trial.program.saying(/waiting for a writer of \S+fifo: start one/);
  expect(await other.blockStatus(0, 4 * KiB)).toBe(0);
  other.disconnect();
  await using _ = start(["sh", "-c", 'cat "$1" > "$0"', trial.ownFile("fifo"), trial.file("data")]);
  expect((await client.answer(0, MiB)).data.equals(DATA.subarray(0, MiB))).toBeTrue();
  expect((await client.readAll(MiB, 8 * MiB, MiB)).error).toBe(0);
  client.disconnect();
  const { stderr } = await trial.completes(8 * MiB);
  expect(stderr.split("waiting for a writer")).toHaveLength(2);
});

describe.each(FORMS)("with $form, a writer that stalls and goes on", ({ structured, piece }) => {
  test("loses nothing, and costs nothing while it is waited for", async () => {
    const fifo = `head -c ${END} data; ${GATE}; tail -c +${END + 1} data`;
    await using trial = await ReadTrial.serve({ fifo }, { args: WHOLE });
    using client = await trial.reader(structured);
    const reading = client.readAll(0, 8 * MiB, piece);
    await trial.source.ready();
    await trial.settled();
    if (structured && piece > 4 * KiB) await trial.idles();
    trial.openGate();
    const { error, data } = await reading;
    expect(error).toBe(0);
    expect(data.equals(DATA)).toBeTrue();
    client.disconnect();
    await trial.completes(8 * MiB);
  });
});

test("while a writer stalls, another client's questions are answered, and its READs wait", async () => {
  const fifo = `head -c ${2 * MiB} data; ${GATE}; tail -c +${2 * MiB + 1} data`;
  await using trial = await ReadTrial.serve({ fifo }, { args: WHOLE });
  using client = await trial.reader();
  expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
  client.ask(2 * MiB, MiB);
  await trial.settled();
  using other = await trial.reader(true);
  expect(await other.blockStatus(4 * MiB, 64 * KiB)).toBe(0);
  let answered = false;
  const start = other.read(0, 64 * KiB).finally(() => {
    answered = true;
  });
  await trial.settled();
  expect(answered).toBeFalse();
  trial.openGate();
  expect((await start).data.equals(DATA.subarray(0, 64 * KiB))).toBeTrue();
  expect(
    (await client.answer(2 * MiB, MiB)).data.equals(DATA.subarray(2 * MiB, 3 * MiB)),
  ).toBeTrue();
  expect((await client.readAll(3 * MiB, 8 * MiB, MiB)).error).toBe(0);
  for (const one of [client, other]) one.disconnect();
  await trial.completes(8 * MiB);
});
