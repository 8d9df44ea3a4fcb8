/** What becomes of a stream that is read when its client dies, half-closes, or goes back. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "node:net";
import { NBD_CMD_READ } from "../../src/protocol/constants.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeRequest } from "../support/wire.ts";
import { eventually, start } from "../support/program.ts";
import { CHILD, DATA, FEW_FORMS, FORMS, ReadTrial } from "../support/read-trial.ts";
import { ERROR, GATE } from "../support/base-trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const FILE = { path: "data" };
const LEFT = /truncated: a client left without NBD_CMD_DISC: see why it died, and start again$/;

const part = (from: number, to: number) => DATA.subarray(from, to);

describe.each(["simple", "structured"])("with %s replies, a client that is killed", (form) => {
  test.each([
    { stage: "idle state", bytes: 2 * MiB },
    { stage: "header", bytes: 2 * MiB },
    // Some of the next has left for it.
    { stage: "reply", bytes: undefined },
  ])("in the $stage truncates the stream of serve", async ({ stage, bytes }) => {
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M"] });
    await using client = start([...CHILD, trial.socket, stage, form]);
    await trial.signalChild("SIGKILL", client);
    await trial.fails({ status: 4, message: LEFT, bytes });
  });

  test("in a jump truncates the stream, and nothing more is passed over", async () => {
    await using trial = await ReadTrial.serve({ exec: "yes" });
    await using client = start([...CHILD, trial.socket, "jump", form]);
    await trial.signalChild("SIGKILL", client);
    await trial.fails({ status: 4, message: LEFT });
  });
});

test("a jump ends where the source was when its client died", async () => {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const unix = (connection: Socket) => {
    connection.write(part(0, 3 * MiB));
    resolve(connection);
  };
  const args = ["size=8M", "--reconnect=60"];
  await using trial = await ReadTrial.serve({ unix }, { args });
  using client = await trial.reader();
  client.ask(7 * MiB, 4 * KiB);
  await trial.settled();
  client.hangUp();
  await trial.program.saying(/client 1 ended: cut\n/);
  (await promise).end(part(3 * MiB, 8 * MiB));
  using again = await trial.reader();
  const { error, data } = await again.readAll(3 * MiB, 8 * MiB, MiB);
  expect(error).toBe(0);
  expect(data.equals(part(3 * MiB, 8 * MiB))).toBeTrue();
  again.disconnect();
  await trial.completes(8 * MiB);
});

describe.each([false, true])("a client that takes no reply (structured: %p)", (structured) => {
  test("and is killed in its first READ has truncated the stream", async () => {
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M"] });
    using client = await trial.reader(structured);
    client.ask(0, 8 * MiB);
    await client.raw.receive(2 * MiB);
    client.raw.socket.pause();
    await trial.settled();
    client.hangUp();
    await trial.fails({ status: 4, message: LEFT });
  });
});

test("a client that is killed before it has had anything ends nothing", async () => {
  const fifo = `head -c ${MiB} data; ${GATE}; tail -c +${MiB + 1} data`;
  await using trial = await ReadTrial.serve({ fifo }, { args: ["size=8M"] });
  using client = await trial.reader();
  client.ask(0, 8 * MiB);
  await trial.settled();
  client.hangUp();
  await trial.program.saying(/client 1 ended: cut\n/);
  trial.openGate();
  using other = await trial.reader();
  expect((await other.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
  other.disconnect();
  await trial.completes(8 * MiB);
});

test("clients that come and die in every state leave no descriptor behind", async () => {
  const fifo = `head -c ${MiB} data; ${GATE}; tail -c +${MiB + 1} data`;
  await using trial = await ReadTrial.serve({ fifo }, { args: ["size=8M"] });
  await trial.settled();
  using first = await trial.reader();
  expect((await first.read(0, MiB)).error).toBe(0);
  const lost = () => trial.program.stderr.match(/client [0-9]+ ended: (cut|dropped)/g)?.length;
  let before = 0;
  for (let round = 1; round <= 10; round++) {
    {
      using waiting = await trial.reader(round % 2 === 0);
      waiting.ask(MiB, 64 * KiB);
      using next = await trial.reader();
      next.ask(0, 64 * KiB);
      using reading = await trial.reader();
      reading.raw.send(encodeRequest(NBD_CMD_READ, 0, 512).subarray(0, 13));
      using negotiating = await RawClient.connect(trial.socket);
      await negotiating.receive(18);
      await trial.settled();
    }
    await eventually(() => lost() === 3 * round, "all of them to be gone");
    // Some are for good, and opened when first needed.
    if (round === 1) before = trial.descriptors;
  }
  await eventually(() => trial.descriptors <= before, "their descriptors to be closed");
  trial.openGate();
  expect((await first.readAll(MiB, 8 * MiB, MiB)).error).toBe(0);
  first.disconnect();
  await trial.completes(8 * MiB);
});

test("a client that takes no reply, and others behind it that are gone, cost nothing", async () => {
  await using trial = await ReadTrial.serve(FILE);
  using client = await trial.reader(true);
  client.raw.socket.pause();
  client.ask(0, 8 * MiB);
  await trial.settled();
  const behind = [await trial.reader(), await trial.reader(true)];
  for (const one of behind) one.ask(0, 4 * KiB);
  await trial.settled();
  behind[0]?.hangUp();
  behind[1]?.raw.socket.end();
  await trial.settled();
  await trial.idles();
  client.raw.socket.resume();
  expect((await client.answer(0, 8 * MiB)).data.equals(DATA)).toBeTrue();
  expect((await behind[1]?.answer(0, 4 * KiB))?.data.equals(part(0, 4 * KiB))).toBeTrue();
  client.disconnect();
  await trial.completes(8 * MiB);
});

describe.each(FORMS)("with $form, a client that half-closes", ({ structured, piece }) => {
  const count = Math.min(16, (8 * MiB) / piece);
  const begun = 2 * MiB;

  async function half(disconnects: boolean) {
    const fifo = `head -c ${begun + piece} data; ${GATE}; tail -c +${begun + piece + 1} data`;
    const size = Math.min(8 * MiB, begun + count * piece);
    const trial = await ReadTrial.serve({ fifo }, { args: [`size=${size}`] });
    const client = await trial.reader(structured);
    expect((await client.readAll(0, begun, MiB)).error).toBe(0);
    for (let at = begun; at < size; at += piece) client.ask(at, piece);
    if (disconnects) client.disconnect();
    client.raw.socket.end();
    await trial.settled();
    trial.openGate();
    for (let at = begun; at < size; at += piece) {
      const { error, data } = await client.answer(at, piece);
      expect(error).toBe(0);
      expect(data.equals(part(at, at + piece))).toBeTrue();
    }
    return { trial, size };
  }

  test("gets all its replies, and has truncated the stream", async () => {
    const { trial, size } = await half(false);
    await using _ = trial;
    await trial.fails({ status: 4, message: LEFT, bytes: size });
  });

  test("after NBD_CMD_DISC gets them, too, and has left a complete stream", async () => {
    const { trial, size } = await half(true);
    await using _ = trial;
    await trial.completes(size);
  });
});

describe("a client that sends garbage", () => {
  const GARBAGE = Buffer.alloc(64, 0x55);

  test("before it has read is cut off, and harms nobody", async () => {
    await using trial = await ReadTrial.serve(FILE);
    for (const client of [await trial.client(), await RawClient.connect(trial.socket)]) {
      client.send(GARBAGE);
      await client.closed();
    }
    using other = await trial.reader();
    expect((await other.readAll(0, 8 * MiB, MiB)).data.equals(DATA)).toBeTrue();
    other.disconnect();
    await trial.completes(8 * MiB);
  });

  test("after it has read has truncated the stream", async () => {
    await using trial = await ReadTrial.serve(FILE);
    using client = await trial.reader();
    expect((await client.readAll(0, 2 * MiB, MiB)).error).toBe(0);
    client.raw.send(GARBAGE);
    await client.raw.closed();
    await trial.program.saying(/client 1 was cut off: it does not speak NBD/);
    await trial.fails({ status: 4, message: LEFT, bytes: 2 * MiB });
  });
});

describe.each(FEW_FORMS)("with $form, a client that goes back", ({ structured, piece }) => {
  const back = 1536 * KiB;

  test(
    "gets EIO for good, and it is told what would have helped",
    async () => {
      await using trial = await ReadTrial.serve(FILE);
      using client = await trial.reader(structured);
      expect((await client.readAll(0, 4 * MiB, piece)).error).toBe(0);
      const { error, message: told } = await client.read(back, piece);
      expect(error).toBe(ERROR.EIO);
      if (structured) expect(told).toContain("which has reached byte 4194304: the client does not");
      expect((await client.read(4 * MiB, piece)).error).toBe(ERROR.EIO);
      expect((await client.read(0, 512)).error).toBe(ERROR.EIO);
      client.disconnect();
      const message = new RegExp(
        `truncated: NBD_CMD_READ of ${piece} bytes at ${back} lies behind the stream, which has ` +
          "reached byte 4194304: .*; window=4M would have kept this$",
      );
      await trial.fails({ status: 4, message, bytes: 4 * MiB });
    },
    // The program ends soon after its stream has failed, whether its client has heard of it or not.
    IN_TIME,
  );

  test("as far as that window does nothing wrong, and no byte further", async () => {
    await using trial = await ReadTrial.serve(FILE, { args: ["window=4M"] });
    using client = await trial.reader(structured);
    expect((await client.readAll(0, 6 * MiB, piece)).error).toBe(0);
    const { data } = await client.read(2 * MiB, piece);
    expect(data.equals(part(2 * MiB, 2 * MiB + piece))).toBeTrue();
    expect((await client.read(0, MiB)).data.equals(part(0, MiB))).toBeTrue();
    expect((await client.read(2 * MiB - 1, piece)).error).toBe(ERROR.EIO);
    client.disconnect();
    await trial.fails({ status: 4, message: /window=8M would have kept this$/, bytes: 6 * MiB });
  });
});
