/** `serve --reconnect`: clients whose connection is lost come back and go on. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "../../src/protocol/constants.ts";
import { type RawClient } from "../support/nbd-client.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";
import { command, eventually } from "../support/program.ts";
import { DATA, ERROR, GATE, Trial } from "../support/trial.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

/** Far longer than any of these tests takes. */
const PATIENT = { args: ["--reconnect=60"] };
/** For clients that do not come back. */
const BRIEF = { args: ["--reconnect=0.5"] };
/** For those that do, and then are slow: enough to come back in on a busy machine. */
const SECONDS = { args: ["--reconnect=2"] };

const part = (from: number, to: number) => DATA.subarray(from, to);

/** Hangs up, and waits until it is noticed. */
async function hangUp(trial: Trial, client: RawClient) {
  const lost = "a client was lost; it has";
  const times = trial.program.stderr.split(lost).length;
  client.socket.destroy();
  await trial.program.saying(new RegExp(`(?:${lost}[^]*){${times}}`));
}

/** Sends a WRITE's header and so much of its payload, and hangs up when that has arrived. */
async function drop(trial: Trial, client: RawClient, at: number, length: number, sent: number) {
  client.send(encodeRequest(NBD_CMD_WRITE, at, length), part(at, at + sent));
  await eventually(() => client.socket.writableLength === 0, "the bytes to leave");
  await trial.settled();
  await hangUp(trial, client);
}

const PAYLOADS = [
  { length: 4 * KiB, sent: 0 },
  { length: 4 * KiB, sent: 1000 },
  { length: 64 * KiB, sent: 40_000 },
  { length: MiB, sent: 700_000 },
  { length: 4 * MiB, sent: 4 * MiB - 1 },
];

describe.each(PAYLOADS)("a client lost $sent bytes into a WRITE of $length", (payload) => {
  const { length, sent } = payload;
  const start = 64 * KiB;
  const end = start + length;

  test("repeats it and goes on: no byte is missing, and none comes twice", async () => {
    await using trial = await Trial.serve("FIFO", PATIENT);
    using client = await trial.client();
    expect(await client.write(0, part(0, start))).toBe(0);
    await drop(trial, client, start, length, sent);
    using again = await trial.client();
    expect(await again.write(start, part(start, end))).toBe(0);
    expect(await again.write(end, part(end, end + start))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, end + start));
  });

  test("may be lost again on the way", async () => {
    await using trial = await Trial.serve("FIFO", PATIENT);
    for (const times of [1, 2, 3]) {
      using client = await trial.client();
      await drop(trial, client, 0, length, Math.floor((sent * times) / 3));
    }
    using again = await trial.client();
    expect(await again.write(0, part(0, length))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, length));
  });

  test("has truncated the stream without --reconnect", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    client.send(encodeRequest(NBD_CMD_WRITE, 0, length), part(0, sent));
    await trial.settled();
    client.socket.destroy();
    const message = /truncated: the client's connection ended [0-9]+ bytes before the end of/;
    await trial.fails({ status: 4, message });
  });

  test("has truncated the stream if it does not come back", async () => {
    await using trial = await Trial.serve("FIFO", BRIEF);
    using client = await trial.client();
    // Nothing is waited for: by then, its time may be over.
    client.send(encodeRequest(NBD_CMD_WRITE, 0, length), part(0, sent));
    client.socket.end();
    await trial.fails({ status: 4, message: /truncated: (the|a) client/ });
    // In this order: it was told of, and nobody had been given up by then.
    expect(trial.program.stderr).toMatch(
      /a client was lost; it has 0\.5 s to come back\n[^]*error: /,
    );
  });
});

describe("a client whose first link is dead, which the server does not know", () => {
  /** Far longer than a test may take: what waits for it fails. */
  const ENDLESS = { args: ["--reconnect=3600", "--idle-timeout=3600"] };

  test("ends the stream when it has repeated on another one what was cut there", async () => {
    await using trial = await Trial.serve("FIFO", ENDLESS);
    using dead = await trial.client();
    expect(await dead.write(0, part(0, 64 * KiB))).toBe(0);
    // Behind a gap: it waits in the window, up to the end.
    const start = 128 * KiB;
    dead.send(encodeRequest(NBD_CMD_WRITE, start, 64 * KiB), part(start, start + 1000));
    await trial.settled();
    using again = await trial.client();
    expect(await again.write(start, part(start, start + 64 * KiB))).toBe(0);
    again.disconnect();
    const gap = Buffer.alloc(64 * KiB);
    await trial.completes(Buffer.concat([part(0, 64 * KiB), gap, part(start, start + 64 * KiB)]));
  });
});

test("a client that is still there goes on when another one has finished", async () => {
  await using trial = await Trial.serve("FIFO", { args: ["--reconnect=60", "-v"] });
  using first = await trial.client();
  using second = await trial.client();
  expect(await first.write(0, part(0, 4 * KiB))).toBe(0);
  expect(await second.write(4 * KiB, part(4 * KiB, 8 * KiB))).toBe(0);
  second.disconnect();
  const isGone = () => trial.program.stderr.includes("client 2 ended: disconnected");
  await eventually(isGone, "the end of the second");
  await trial.settled();
  expect(await first.write(8 * KiB, part(8 * KiB, 12 * KiB))).toBe(0);
  first.disconnect();
  await trial.completes(part(0, 12 * KiB));
});

test.each([0, 64 * KiB])(
  "a WRITE that is cut %d bytes ahead of the stream, and not repeated, truncates it",
  async (gap) => {
    await using trial = await Trial.serve("FIFO", PATIENT);
    using client = await trial.client();
    expect(await client.write(0, part(0, 4 * KiB))).toBe(0);
    await drop(trial, client, 4 * KiB + gap, 4 * KiB, 1000);
    using again = await trial.client();
    expect(await again.write(256 * KiB, part(0, 4 * KiB))).toBe(0);
    again.disconnect();
    await trial.fails({ status: 4, message: /truncated: the client's connection ended/ });
  },
);

describe("somebody who only asks questions while a client is away", () => {
  const ask = (trial: Trial) => command(["nbdinfo", `nbd+unix:///?socket=${trial.socket}`]);

  test("is not the client that comes back", async () => {
    await using trial = await Trial.serve("FIFO", PATIENT);
    using client = await trial.client();
    await drop(trial, client, 0, MiB, 700_000);
    await ask(trial);
    using again = await trial.client();
    expect(await again.write(0, part(0, MiB))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, MiB));
  });

  test.each(["command", "FIFO"] as const)("does not make a stream to a %s whole", async (sink) => {
    await using trial = await Trial.serve(sink, BRIEF);
    using client = await trial.client();
    expect(await client.write(0, part(0, 64 * KiB))).toBe(0);
    await hangUp(trial, client);
    await ask(trial);
    await trial.fails({ status: 4, message: /truncated: \S/, bytes: 64 * KiB });
  });
});

test("a client that came back in time may take as long as it wants", async () => {
  await using trial = await Trial.serve("FIFO", SECONDS);
  using client = await trial.client();
  await drop(trial, client, 0, MiB, 700_000);
  using again = await trial.client();
  expect(await again.write(0, part(0, MiB))).toBe(0);
  // Slow on purpose: longer than what it had to come back.
  await Bun.sleep(2500);
  expect(await again.write(MiB, part(MiB, 2 * MiB))).toBe(0);
  again.disconnect();
  await trial.completes(part(0, 2 * MiB));
});

test("a client that comes back before it is missed goes on", async () => {
  await using trial = await Trial.serve("FIFO", PATIENT);
  using client = await trial.client();
  client.send(encodeRequest(NBD_CMD_WRITE, 0, MiB), part(0, 700_000));
  await trial.settled();
  using again = await trial.client();
  expect(await again.flush()).toBe(0);
  await hangUp(trial, client);
  expect(await again.write(0, part(0, MiB))).toBe(0);
  again.disconnect();
  await trial.completes(part(0, MiB));
});

test.each([
  { mode: "serve", options: [] },
  { mode: "serve --hold", options: ["spool=.", "--hold"] },
])("a client of an empty stream of $mode comes back, too", async ({ options }) => {
  await using trial = await Trial.serve("FIFO", { args: ["size=0", ...options, "--reconnect=60"] });
  const client = await trial.client();
  await hangUp(trial, client);
  using again = await trial.client();
  again.disconnect();
  await trial.completes(new Uint8Array());
});

test("the server listens on while a client is away, though zeroes up to the end were asked for", async () => {
  await using trial = await Trial.serve("FIFO", { args: ["size=1M", "--reconnect=60"] });
  const half = 512 * KiB;
  using first = await trial.client();
  first.send(encodeRequest(NBD_CMD_WRITE_ZEROES, half, half));
  await drop(trial, first, 0, half, 100_000);
  using second = await trial.client();
  second.send(encodeRequest(NBD_CMD_WRITE, 0, half), part(0, 200_000));
  await trial.settled();
  // It has moved nothing when the one before it is missed.
  using third = await trial.client();
  await hangUp(trial, second);
  third.socket.destroy();
  using fourth = await trial.client();
  expect(await fourth.write(0, part(0, half))).toBe(0);
  fourth.disconnect();
  await trial.completes(Buffer.concat([part(0, half), Buffer.alloc(half)]));
});

test("a client that comes back and writes on behind its WRITE has truncated the stream", async () => {
  await using trial = await Trial.serve("FIFO", SECONDS);
  using client = await trial.client();
  await drop(trial, client, 0, MiB, 700_000);
  using again = await trial.client();
  await again.write(MiB, part(MiB, 2 * MiB));
  again.disconnect();
  const message = /truncated: \S/;
  const hole = Buffer.concat([part(0, 700_000), Buffer.alloc(MiB - 700_000), part(MiB, 2 * MiB)]);
  await trial.fails({ status: 4, message, whole: hole });
});

test("a client that comes back and writes something else behind the head gets EIO", async () => {
  await using trial = await Trial.serve("FIFO", PATIENT);
  using client = await trial.client();
  expect(await client.write(0, part(0, 64 * KiB))).toBe(0);
  await drop(trial, client, 64 * KiB, MiB, 700_000);
  using again = await trial.client();
  expect(await again.write(4 * KiB, part(8 * KiB, 12 * KiB))).toBe(ERROR.EIO);
  again.disconnect();
  await trial.fails({ status: 4, message: /truncated: NBD_CMD_WRITE of 4096 bytes at 4096 lies/ });
});

test("a client that was not lost may not repeat a WRITE", async () => {
  await using trial = await Trial.serve("FIFO", PATIENT);
  using client = await trial.client();
  expect(await client.write(0, part(0, 4 * KiB))).toBe(0);
  expect(await client.write(0, part(0, 4 * KiB))).toBe(ERROR.EIO);
  client.disconnect();
  await trial.fails({ status: 4, message: /truncated: NBD_CMD_WRITE of 4096 bytes at 0 lies/ });
});

describe("a client lost between two requests", () => {
  test.each(["between two requests", "in a header"])("%s goes on where it was", async (where) => {
    await using trial = await Trial.serve("FIFO", PATIENT);
    using client = await trial.client();
    expect(await client.write(0, part(0, 64 * KiB))).toBe(0);
    if (where === "in a header") client.send(encodeRequest(NBD_CMD_WRITE, 0, 1).subarray(0, 11));
    await trial.settled();
    await hangUp(trial, client);
    using again = await trial.client();
    expect(await again.write(64 * KiB, part(64 * KiB, MiB))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, MiB));
  });

  test("has truncated the stream if it does not come back in time", async () => {
    await using trial = await Trial.serve("FIFO", BRIEF);
    using client = await trial.client();
    expect(await client.write(0, part(0, 64 * KiB))).toBe(0);
    client.socket.destroy();
    const message = /truncated: \S.* left without NBD_CMD_DISC/;
    await trial.fails({ status: 4, message, bytes: 64 * KiB });
  });
});

describe("a client with several WRITEs in flight", () => {
  test.each([
    { size: 4 * KiB, count: 16 },
    { size: 256 * KiB, count: 16 },
  ])("of $size repeats all of them", async ({ size, count }) => {
    // The reader takes nothing until the client is gone: no reply can have got through for all.
    await using trial = await Trial.serve({ fifo: `head -c 1; ${GATE}; cat` }, PATIENT);
    using client = await trial.client();
    const all = Array.from({ length: count }, (_, i) =>
      encodeWrite(i * size, part(i * size, (i + 1) * size), BigInt(i)),
    );
    client.send(...all);
    await trial.settled();
    client.socket.destroy();
    trial.openGate();
    await trial.program.saying(/a client was lost/);
    using again = await trial.client();
    again.send(...all);
    for (let i = 0; i < count; i++) {
      expect(await again.reply()).toEqual({ error: 0, cookie: BigInt(i) });
    }
    again.disconnect();
    await trial.completes(part(0, count * size));
  });
});

describe("with a window", () => {
  const options = { args: ["--reconnect=60", "window=8M"] };

  test("data that is held outlives the connection it came by", async () => {
    await using trial = await Trial.serve("FIFO", options);
    using client = await trial.client();
    expect(await client.write(2 * MiB, part(2 * MiB, 3 * MiB))).toBe(0);
    await drop(trial, client, 0, MiB, 700_000);
    using again = await trial.client();
    expect(await again.write(0, part(0, MiB))).toBe(0);
    expect(await again.write(MiB, part(MiB, 2 * MiB))).toBe(0);
    expect(await again.write(3 * MiB, part(3 * MiB, 4 * MiB))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, 4 * MiB));
  });

  test("a WRITE that was lost on its way into the window is repeated", async () => {
    await using trial = await Trial.serve("FIFO", options);
    using client = await trial.client();
    expect(await client.write(0, part(0, 64 * KiB))).toBe(0);
    await drop(trial, client, 2 * MiB, MiB, 700_000);
    using again = await trial.client();
    expect(await again.write(2 * MiB, part(2 * MiB, 3 * MiB))).toBe(0);
    expect(await again.write(64 * KiB, part(64 * KiB, 2 * MiB))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, 3 * MiB));
  });

  test("a WRITE whose reply was lost may have left the window by then", async () => {
    await using trial = await Trial.serve("FIFO", options);
    using client = await trial.client();
    client.send(encodeWrite(MiB, part(MiB, 2 * MiB)), encodeWrite(0, part(0, MiB)));
    await trial.settled();
    await client.reply();
    await client.reply();
    await hangUp(trial, client);
    using again = await trial.client();
    expect(await again.write(MiB, part(MiB, 2 * MiB))).toBe(0);
    expect(await again.write(0, part(0, MiB))).toBe(0);
    expect(await again.write(2 * MiB, part(2 * MiB, 3 * MiB))).toBe(0);
    again.disconnect();
    await trial.completes(part(0, 3 * MiB));
  });

  test("held data without what comes before it is no complete stream", async () => {
    const brief = { args: ["--reconnect=0.5", "window=8M"] };
    await using trial = await Trial.serve("FIFO", brief);
    using client = await trial.client();
    expect(await client.write(2 * MiB, part(2 * MiB, 3 * MiB))).toBe(0);
    // Nothing is waited for: by then, its time may be over.
    client.send(encodeRequest(NBD_CMD_WRITE, 0, MiB), part(0, 700_000));
    client.socket.destroy();
    const message = /truncated: (the|a) client/;
    await trial.fails({ status: 4, message });
  });
});
