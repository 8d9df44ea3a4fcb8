/** `serve` and clients that move nothing: they neither keep others out nor the stream from its end. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_DISC, NBD_CMD_READ, NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { bounded, eventually } from "../support/program.ts";
import { DATA, GATE, Trial, type TrialOptions } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const PART = DATA.subarray(0, 64 * KiB);
const PAIR = DATA.subarray(0, 128 * KiB);
/** Seconds that these tests give silent clients, and more than that in milliseconds. */
const SHORT = "0.5";
const LONGER = 700;
/** Seconds for clients that are to be served: far more than a busy machine takes in between. */
const ENOUGH = 2;
const FULL = "size=64k";

const serve = (args: readonly string[], options: TrialOptions = {}) =>
  Trial.serve("command", { ...options, args });

/** Waits until the server has taken a client in: its silence counts from then on. */
async function taken(client: RawClient): Promise<RawClient> {
  expect(await client.flush()).toBe(0);
  return client;
}

/** So many clients that are in the transmission phase and say nothing. */
async function silent(trial: Trial, count: number): Promise<RawClient[] & Disposable> {
  const all: RawClient[] = [];
  for (let i = 0; i < count; i++) all.push(await taken(await trial.client()));
  const dispose = () => {
    for (const client of all) client[Symbol.dispose]();
  };
  return Object.assign(all, { [Symbol.dispose]: dispose });
}

/** Writes PART where it belongs in PAIR, and leaves in order. */
async function write(trial: Trial, at = 0): Promise<void> {
  using client = await trial.client();
  expect(await client.write(at, PAIR.subarray(at, at + PART.length))).toBe(0);
  client.disconnect();
  await client.closed();
}

describe("when all places are taken, a newcomer gets that of a client", () => {
  const displaced = (id: number) =>
    new RegExp(`client ${id} was cut off: it has moved nothing, and others need its place`);

  test(
    "that has said nothing for --idle-timeout, the one that is silent for longest",
    async () => {
      await using trial = await serve([`--idle-timeout=${SHORT}`, "--max-connections=3", FULL]);
      using others = await silent(trial, 3);
      await Bun.sleep(LONGER);
      expect(await others[0]?.flush()).toBe(0);
      await write(trial);
      await trial.program.saying(displaced(2));
      await others[1]?.closed();
      await trial.completes(PART);
    },
    // The stream thread has half a second to give a place back.
    IN_TIME,
  );

  test(
    "that goes on asking, and has never moved anything",
    async () => {
      await using trial = await serve([`--idle-timeout=${SHORT}`, "--max-connections=1", FULL]);
      using asking = await taken(await trial.client());
      for (const since = performance.now(); performance.now() - since < LONGER;) {
        expect(await asking.flush()).toBe(0);
        await Bun.sleep(50);
      }
      await write(trial);
      await trial.program.saying(displaced(1));
      await trial.completes(PART);
    },
    IN_TIME,
  );

  test(
    "where it is the limit of descriptors that has no room for more",
    async () => {
      const args = [`--idle-timeout=${SHORT}`, "--negotiation-timeout=60", FULL];
      await using trial = await serve(args, { shell: "ulimit -n 64; " });
      await using stack = new AsyncDisposableStack();
      for (let full = false; !full;) {
        try {
          await taken(stack.use(await RawClient.transmission(trial.socket)));
        } catch {
          full = true;
        }
      }
      await trial.program.saying(/ulimit -n has room for no more/);
      await Bun.sleep(LONGER);
      await write(trial);
      await trial.program.saying(displaced(1));
      await trial.completes(PART);
    },
    IN_TIME,
  );

  test("only after that time, and never with --idle-timeout=0", async () => {
    for (const timeout of ["60", "0"]) {
      await using trial = await serve([`--idle-timeout=${timeout}`, "--max-connections=1"]);
      using _ = await silent(trial, 1);
      await Bun.sleep(LONGER);
      await turnedAway(trial.socket);
      await trial.program.saying(/a connection was refused: 1 are open \(--max-connections\)/);
    }
  });

  test("but not of one that has moved the stream, however silent it is", async () => {
    await using trial = await serve([`--idle-timeout=${SHORT}`, "--max-connections=1", FULL]);
    using client = await trial.client();
    expect(await client.write(0, PART.subarray(0, KiB))).toBe(0);
    await Bun.sleep(LONGER);
    await turnedAway(trial.socket);
    expect(await client.write(KiB, PART.subarray(KiB))).toBe(0);
    client.disconnect();
    await trial.completes(PART);
  });
});

test("clients that negotiate slowly keep others out for --negotiation-timeout, and no longer", async () => {
  await using trial = await serve([`--negotiation-timeout=${ENOUGH}`, "--max-connections=4", FULL]);
  using stack = new DisposableStack();
  const trickling: RawClient[] = [];
  for (let i = 0; i < 4; i++) {
    trickling.push(stack.use(await RawClient.negotiating(trial.socket)));
  }
  let stop = false;
  const drip = (async () => {
    const bytes = encodeOption(NBD_OPT_EXPORT_NAME, Buffer.alloc(4000));
    for (let at = 0; !stop; at++, await Bun.sleep(20)) {
      for (const client of trickling) client.send(bytes.subarray(at, at + 1));
    }
  })();
  await turnedAway(trial.socket);
  await bounded(Promise.all(trickling.map((client) => client.closed())), "their end");
  stop = true;
  await drip;
  await write(trial);
  await trial.completes(PART);
});

describe("when the client that moved the stream has left, those that have moved nothing", () => {
  test("do not matter if the stream has reached size=", async () => {
    for (const timeout of ["0", "600"]) {
      await using trial = await serve([`--idle-timeout=${timeout}`, FULL]);
      using others = await silent(trial, 5);
      using negotiating = await RawClient.negotiating(trial.socket);
      await write(trial);
      await trial.completes(PART);
      for (const client of [...others, negotiating]) await client.closed();
      expect(trial.program.stderr).toMatch(/client 1 ended: dismissed/);
    }
  });

  test("have --idle-timeout to begin, and are cut off then", async () => {
    await using trial = await serve([`--idle-timeout=${SHORT}`]);
    using others = await silent(trial, 3);
    await write(trial);
    await trial.completes(PART);
    for (const client of others) await client.closed();
  });

  test("do not get more time by asking again and again", async () => {
    await using trial = await serve([`--idle-timeout=${SHORT}`]);
    using asking = await taken(await trial.client());
    const talk = (async () => {
      try {
        for (;;) {
          await asking.flush();
          await Bun.sleep(20);
        }
      } catch {
        // The stream has ended.
      }
    })();
    await write(trial);
    await trial.completes(PART);
    await talk;
  });

  test("may go on with it within that time", async () => {
    await using trial = await serve(["--idle-timeout=600"]);
    using other = await trial.client();
    await write(trial);
    await trial.program.saying(/client 2 ended/);
    await Bun.sleep(LONGER);
    expect(await other.write(PART.length, PAIR.subarray(PART.length))).toBe(0);
    other.disconnect();
    await trial.completes(PAIR);
  });

  test("are waited for with --idle-timeout=0, for as long as it takes", async () => {
    await using trial = await serve(["--idle-timeout=0"]);
    using other = await trial.client();
    await write(trial);
    await trial.program.saying(/client 2 ended/);
    await Bun.sleep(2 * LONGER);
    expect(trial.program.process.exitCode).toBeNull();
    other.disconnect();
    await trial.completes(PART);
  });

  test("and wait for another one's payload, are served", async () => {
    await using trial = await serve(["--idle-timeout=10", "size=192k", "--no-pad"]);
    using first = await trial.client();
    using second = await trial.client();
    const [one, two] = [PAIR.subarray(0, PART.length), PAIR.subarray(PART.length)];
    const bytes = encodeWrite(0, one);
    first.send(bytes.subarray(0, 40_000));
    await trial.settled();
    second.send(encodeWrite(PART.length, two));
    await trial.settled();
    first.send(bytes.subarray(40_000));
    expect((await first.reply()).error).toBe(0);
    first.disconnect();
    expect((await second.reply()).error).toBe(0);
    second.disconnect();
    await trial.completes(PAIR);
  });

  test("and wait for the reader, are served, however long that takes", async () => {
    const slow = { exec: `head -c 1000 > part; ${GATE}; cat >> part; echo committed > done` };
    await using trial = await Trial.serve(slow, { args: [`--idle-timeout=${ENOUGH}`] });
    using other = await trial.client();
    using first = await trial.client();
    // More than a pipe holds: it cannot leave before there is a reader.
    const rest = DATA.subarray(PART.length, 4 * MiB);
    expect(await first.write(0, PART)).toBe(0);
    first.disconnect();
    other.send(encodeWrite(PART.length, rest));
    await Bun.sleep(1000 * ENOUGH + 300);
    expect(trial.program.process.exitCode).toBeNull();
    trial.openGate();
    expect((await other.reply()).error).toBe(0);
    other.disconnect();
    await trial.completes(DATA.subarray(0, 4 * MiB));
  });

  test("are not waited for when the stream is truncated anyway", async () => {
    await using trial = await serve(["--idle-timeout=600"]);
    using _others = await silent(trial, 2);
    using client = await trial.client();
    expect(await client.write(0, PART)).toBe(0);
    client.socket.destroy();
    await trial.fails({ status: 4, message: /a client left without NBD_CMD_DISC/ });
  });

  test(
    "do not make a failure of a signal that ends --keep",
    async () => {
      await using trial = await serve(["--keep", "--idle-timeout=600"]);
      using _others = await silent(trial, 2);
      await write(trial);
      await trial.program.saying(/client 3 ended/);
      trial.program.process.kill("SIGTERM");
      await trial.completes(PART);
    },
    IN_TIME,
  );
});

test("a client that moved the stream, and takes no answers at its end, is cut off in time", async () => {
  await using trial = await serve([`--idle-timeout=${SHORT}`, "size=1G"]);
  using client = await trial.client();
  expect(await client.write(0, PART)).toBe(0);
  client.socket.pause();
  client.send(encodeRequest(NBD_CMD_READ, MiB, 32 * MiB), encodeRequest(NBD_CMD_DISC, 0, 0));
  client.socket.end();
  await trial.fails({ status: 4, message: /a client left without NBD_CMD_DISC/ });
  expect(trial.program.stderr).toMatch(/client 1 was cut off: it has stopped/);
});

test("with --keep, a signal does not make a stream whole whose client was lost and has not come back", async () => {
  await using trial = await serve(["--keep", "--reconnect=600"]);
  using client = await trial.client();
  expect(await client.write(0, PART)).toBe(0);
  client.socket.destroy();
  await trial.program.saying(/a client was lost/);
  trial.program.process.kill("SIGTERM");
  await trial.fails({ status: 4, message: /a client left without NBD_CMD_DISC/ });
});

describe("a client that negotiates when the one that moved the stream leaves", () => {
  test(
    "is waited for while it goes on, and then goes on with the stream",
    async () => {
      await using trial = await serve([]);
      using first = await trial.client();
      using second = await RawClient.negotiating(trial.socket);
      expect(await first.write(0, PART)).toBe(0);
      first.disconnect();
      await trial.program.saying(/client 1 ended/);
      for (const byte of encodeOption(NBD_OPT_EXPORT_NAME)) {
        await Bun.sleep(50);
        second.send(Buffer.from([byte]));
      }
      await second.receive(10);
      expect(await second.write(PART.length, PAIR.subarray(PART.length))).toBe(0);
      second.disconnect();
      await trial.completes(PAIR);
    },
    // Half a second of silence is too much.
    IN_TIME,
  );
});

test("of many junk clients a few are told of, and how many more there were", async () => {
  const JUNK = 200;
  await using trial = await serve([FULL]);
  for (let i = 0; i < JUNK; i++) {
    using client = await RawClient.connect(trial.socket);
    client.send(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await client.closed();
  }
  for (let i = 0; i < JUNK; i++) {
    using client = await trial.client();
    client.send(Buffer.alloc(28, 0xff));
    await client.closed();
  }
  await eventually(() => trial.program.stderr.split("\n").length > 10, "some lines");
  await write(trial);
  const { stderr } = await trial.completes(PART);
  for (const [one, more] of [
    ["a connection was refused: ", "connections were refused"],
    ["client \\d+ was cut off: ", "clients were cut off"],
  ] as const) {
    const told = stderr.match(new RegExp(`warn: ${one}`, "g"))?.length ?? 0;
    const lines = [...stderr.matchAll(new RegExp(`warn: (\\d+) more ${more}$`, "gm"))];
    expect(lines.reduce((sum, [, count]) => sum + Number(count), told)).toBe(JUNK);
    // Where the machine takes a second without any, the next few are told of again.
    expect(told).toBeGreaterThanOrEqual(5);
    expect(told + lines.length).toBeLessThan(JUNK / 2);
  }
});
