/** What one client can do to the others, and to the stream: not much. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_CMD_WRITE, NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { CHILD, DATA, GATE, Trial, type TrialOptions, writeAll } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
/** Seconds that clients have which are to be cut off. */
const SHORT = "0.5";
/** Seconds for those that are not to be: far more than a busy machine takes in between. */
const ENOUGH = "2";
/** Milliseconds that are more than either. */
const LONGER = 2400;
/** Bytes of a WRITE that leave in one send(2): nothing of it can come late. */
const AT_ONCE = 64 * KiB;

const serve = (args: readonly string[], options: TrialOptions = {}) =>
  Trial.serve("command", { ...options, args });

describe("--negotiation-timeout", () => {
  const args = [`--negotiation-timeout=${ENOUGH}`];
  const late = /a connection was refused: negotiation has taken more than 2 s/;

  test("cuts off a client that says nothing, and serves the others meanwhile", async () => {
    await using trial = await serve(args);
    using client = await trial.client();
    using silent = await RawClient.connect(trial.socket);
    await silent.receive(18);
    using other = await trial.client();
    expect(await other.flush()).toBe(0);
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    await silent.closed();
    await trial.program.saying(late);
    // Its own negotiation began before that one's, and is over: it may take its time.
    expect(await client.write(KiB, DATA.subarray(KiB, MiB))).toBe(0);
    other.disconnect();
    client.disconnect();
    await trial.completes(DATA.subarray(0, MiB));
  });

  test("counts from the start, however often a client says something", async () => {
    await using trial = await serve(args);
    using trickling = await RawClient.connect(trial.socket);
    await trickling.receive(18);
    let stop = false;
    const flags = Buffer.from([0, 0, 0, 3]);
    // An option of 4096 bytes that nobody knows, byte by byte.
    const header = Buffer.from("49484156454f50540000006300001000", "hex");
    trickling.send(flags, header);
    const drip = (async () => {
      for (; !stop; await Bun.sleep(20)) trickling.send(Buffer.from([0]));
    })();
    await trickling.closed();
    stop = true;
    await drip;
    await trial.program.saying(late);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
  });

  test("does not cut off a client that is done, though the program was stopped meanwhile", async () => {
    await using trial = await serve(args);
    using client = await RawClient.negotiating(trial.socket);
    const { process: program } = trial.program;
    program.kill("SIGSTOP");
    client.send(encodeOption(NBD_OPT_EXPORT_NAME));
    await Bun.sleep(LONGER);
    program.kill("SIGCONT");
    await client.receive(10);
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
  });

  test("does not keep a stream from its end", async () => {
    await using trial = await serve(["--negotiation-timeout=60"]);
    using silent = await RawClient.connect(trial.socket);
    await silent.receive(18);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
    await silent.closed();
  });
});

describe("--max-connections", () => {
  const refused = /a connection was refused: 2 are open \(--max-connections\)/;

  test("refuses the one beyond, and lets the next in when one has left", async () => {
    await using trial = await serve(["--max-connections=2"]);
    using first = await trial.client();
    using second = await trial.client();
    await turnedAway(trial.socket);
    await trial.program.saying(refused);
    expect(await first.write(0, DATA.subarray(0, KiB))).toBe(0);
    second.disconnect();
    await trial.program.saying(/client 2 ended: disconnected/);
    using fourth = await trial.client();
    expect(await fourth.flush()).toBe(0);
    fourth.disconnect();
    first.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
  });

  test("counts those that still negotiate", async () => {
    await using trial = await serve(["--max-connections=2"]);
    using first = await RawClient.connect(trial.socket);
    using second = await RawClient.connect(trial.socket);
    await first.receive(18);
    await second.receive(18);
    await turnedAway(trial.socket);
    await trial.program.saying(refused);
    second.socket.destroy();
    await trial.program.saying(/the client left during negotiation/);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
  });

  test("is 100 if nothing else is said", async () => {
    await using trial = await serve([]);
    await using stack = new AsyncDisposableStack();
    for (let i = 0; i < 100; i++) stack.use(await trial.client());
    await turnedAway(trial.socket);
    await trial.program.saying(/a connection was refused: 100 are open/);
  });
});

describe("--idle-timeout cuts off a client that stops", () => {
  const args = [`--idle-timeout=${SHORT}`];
  const cut = /client 1 was cut off: it has stopped in the middle of a request \(--idle-timeout\)/;

  test("in a header", async () => {
    await using trial = await serve(args);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    client.send(encodeRequest(NBD_CMD_WRITE, KiB, KiB).subarray(0, 13));
    await client.closed();
    await trial.program.saying(cut);
    await trial.fails({ status: 4, message: /truncated: / });
  });

  test.each([
    ["small", 4 * KiB],
    ["large", 4 * MiB],
  ])("in a %s payload", async (_, length) => {
    await using trial = await serve(args);
    using client = await trial.client();
    client.send(encodeRequest(NBD_CMD_WRITE, 0, length), DATA.subarray(0, length / 2));
    await client.closed();
    await trial.program.saying(cut);
    await trial.fails({ status: 4, message: /truncated: / });
  });

  test("to take its answers", async () => {
    await using trial = await serve([...args, "size=1G"]);
    using client = await trial.client();
    client.socket.pause();
    // Answers of 32 MiB in all, of zeroes; a client that only asks ends nothing.
    client.send(encodeRequest(0, 0, 32 * MiB));
    await trial.program.saying(cut);
    using other = await trial.client();
    expect(await writeAll(other, DATA.subarray(0, MiB), AT_ONCE)).toBe(0);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 128 + 15, message: /ended by SIGTERM/ });
  });

  test("before it has moved anything, and the stream goes on", async () => {
    await using trial = await serve(args);
    using client = await trial.client();
    client.send(Buffer.from([0x25]));
    await client.closed();
    await trial.program.saying(cut);
    using other = await trial.client();
    expect(await writeAll(other, DATA.subarray(0, MiB), AT_ONCE)).toBe(0);
    other.disconnect();
    await trial.completes(DATA.subarray(0, MiB));
  });
});

describe("--idle-timeout leaves alone a client", () => {
  test("that is silent between two requests", async () => {
    await using trial = await serve([`--idle-timeout=${SHORT}`]);
    using client = await trial.client();
    expect(await client.write(0, DATA.subarray(0, KiB))).toBe(0);
    await Bun.sleep(900);
    expect(await client.write(KiB, DATA.subarray(KiB, AT_ONCE))).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, AT_ONCE));
  });

  test("that goes on in the middle of a payload, however slowly", async () => {
    await using trial = await serve([`--idle-timeout=${ENOUGH}`]);
    using client = await trial.client();
    client.send(encodeRequest(NBD_CMD_WRITE, 0, 12 * KiB));
    for (let at = 0; at < 12 * KiB; at += KiB) {
      await Bun.sleep(LONGER / 12);
      client.send(DATA.subarray(at, at + KiB));
    }
    expect((await client.reply()).error).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, 12 * KiB));
  });

  test("that waits for a slow sink", async () => {
    const slow = { exec: `${GATE}; cat > part; echo committed > done` };
    await using trial = await Trial.serve(slow, { args: [`--idle-timeout=${ENOUGH}`] });
    using client = await trial.client();
    client.send(encodeWrite(0, DATA));
    await trial.settled();
    await Bun.sleep(LONGER);
    trial.openGate();
    expect((await client.reply()).error).toBe(0);
    client.disconnect();
    await trial.completes(DATA);
  });

  test("with 0, whatever it does", async () => {
    await using trial = await serve(["--idle-timeout=0"]);
    using client = await trial.client();
    const write = encodeWrite(0, DATA.subarray(0, KiB));
    client.send(write.subarray(0, 100));
    await Bun.sleep(900);
    client.send(write.subarray(100));
    expect((await client.reply()).error).toBe(0);
    client.disconnect();
    await trial.completes(DATA.subarray(0, KiB));
  });
});

test("a second writer is served after the first, whose payload comes in parts", async () => {
  await using trial = await serve([]);
  using first = await trial.client();
  using second = await trial.client();
  first.send(encodeRequest(NBD_CMD_WRITE, 0, 64 * KiB), DATA.subarray(0, 32 * KiB));
  await trial.settled();
  second.send(encodeWrite(64 * KiB, DATA.subarray(64 * KiB, 128 * KiB)));
  await trial.settled();
  first.send(DATA.subarray(32 * KiB, 64 * KiB));
  expect((await first.reply()).error).toBe(0);
  expect((await second.reply()).error).toBe(0);
  first.disconnect();
  second.disconnect();
  await trial.completes(DATA.subarray(0, 128 * KiB));
});

test("run never cuts a client off if nothing else is said, and does with --idle-timeout", async () => {
  await using trial = await Trial.run("command", [...CHILD, "$unixsocket", "payload"], {
    args: [`--idle-timeout=${SHORT}`],
  });
  await trial.program.saying(/was cut off: it has stopped in the middle of a request/);
  await using other = await Trial.run("command", [...CHILD, "$unixsocket", "payload"]);
  await other.program.saying(/is in the payload/);
  await Bun.sleep(900);
  expect(other.program.stderr).not.toContain("cut off");
});
