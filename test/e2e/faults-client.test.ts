/** What becomes of a stream whose client dies, half-closes, or is not alone. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { NBD_CMD_FLUSH, NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";
import { eventually, start } from "../support/program.ts";
import { CHILD, DATA, ERROR, GATE, Trial } from "../support/trial.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

/** Where write.child.ts may be when it dies, and what is known of the stream then. */
const STAGES = [
  { stage: "idle state", bytes: 64 * KiB, why: /left without NBD_CMD_DISC/ },
  { stage: "header", bytes: 64 * KiB, why: /left without NBD_CMD_DISC/ },
  {
    stage: "payload",
    bytes: 96 * KiB,
    why: /ended 32768 bytes before the end of NBD_CMD_WRITE of 65536 bytes at 65536, with the stream at byte 98304/,
  },
];

describe.each(STAGES)("a client that is killed in the $stage", ({ stage, bytes, why }) => {
  test.each(["FIFO", "command"] as const)("truncates the stream of serve to a %s", async (sink) => {
    await using trial = await Trial.serve(sink);
    await using client = start([...CHILD, trial.socket, stage]);
    await trial.signalChild("SIGKILL", client);
    const output = await trial.fails({ status: 4, message: why, bytes });
    // A command may have been ended before it had written what it read.
    if (sink === "FIFO") expect(output).toHaveLength(bytes);
  });

  test("and is the command of run gives its status", async () => {
    await using trial = await Trial.run("FIFO", [...CHILD, "$unixsocket", stage]);
    await trial.signalChild("SIGKILL");
    const command = `with the stream at byte ${bytes}`;
    const output = await trial.fails({ status: 137, message: new RegExp(command), bytes });
    expect(output).toHaveLength(bytes);
  });
});

/** In the idle state, the command's word is all there is. */
describe.each(STAGES.slice(1))("a client that is killed in the $stage", ({ stage, bytes }) => {
  test("truncates the stream of run, whatever the command says", async () => {
    const line = `${CHILD.join(" ")} "$unixsocket" ${stage} & wait $!; exit 0`;
    await using trial = await Trial.run("FIFO", [line]);
    await trial.signalChild("SIGKILL");
    await trial.fails({ status: 4, message: /truncated: /, bytes });
  });
});

test("qemu-io that is killed between two requests truncates the stream", async () => {
  await using trial = await Trial.serve("FIFO");
  const io = ["qemu-io", "-f", "raw", "-c", "write -P 9 0 64k", "-c", "sleep 60000"];
  await using client = start([...io, `nbd+unix:///?socket=${trial.socket}`]);
  const written = Buffer.alloc(64 * KiB, 9);
  await trial.program.saying(/client 1 connected/);
  using other = await trial.client();
  // What lies behind the stream cannot be read back.
  while ((await other.read(0, 512)) !== ERROR.EIO) await Bun.sleep(10);
  client.process.kill("SIGKILL");
  other.disconnect();
  const message = /truncated: \S.* left without NBD_CMD_DISC/;
  expect(await trial.fails({ status: 4, message, whole: written })).toEqual(written);
});

test("qemu-img that is killed in the middle truncates the stream", async () => {
  await using trial = await Trial.serve({ fifo: `head -c 1; touch begun; ${GATE}; cat` });
  writeFileSync(trial.file("disk"), DATA);
  const copy = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", trial.file("disk")];
  await using client = start([...copy, `nbd+unix:///?socket=${trial.socket}`]);
  await trial.program.saying(/client 1 connected/);
  await eventually(() => existsSync(trial.file("begun")), "the first data");
  await trial.settled();
  client.process.kill("SIGKILL");
  await client.ended();
  trial.openGate();
  await trial.fails({ status: 4, message: /truncated: (the|a) client.* NBD_CMD_/ });
});

describe("a client that half-closes", () => {
  const PIECES = 16;
  const piece = (i: number) => DATA.subarray(i * 4 * KiB, (i + 1) * 4 * KiB);
  const requests = Array.from({ length: PIECES }, (_, i) => encodeWrite(i * 4 * KiB, piece(i)));

  test("gets all its replies, and has truncated the stream", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    client.send(...requests, encodeRequest(NBD_CMD_FLUSH, 0, 0, { cookie: 2n }));
    client.socket.end();
    for (let i = 0; i < PIECES; i++) expect(await client.reply()).toEqual({ error: 0, cookie: 1n });
    expect(await client.reply()).toEqual({ error: 0, cookie: 2n });
    const message = /truncated: \S.* left without NBD_CMD_DISC/;
    expect(await trial.fails({ status: 4, message, bytes: 64 * KiB })).toHaveLength(64 * KiB);
  });

  test("gets them even if the reader takes its time", async () => {
    await using trial = await Trial.serve({ fifo: `head -c 1; ${GATE}; cat` });
    using client = await trial.client();
    for (let at = 0; at < 4 * MiB; at += MiB) {
      client.send(encodeWrite(at, DATA.subarray(at, at + MiB), BigInt(at)));
    }
    client.socket.end();
    await trial.settled();
    trial.openGate();
    for (let at = 0; at < 4 * MiB; at += MiB) {
      expect(await client.reply()).toEqual({ error: 0, cookie: BigInt(at) });
    }
    const message = /truncated: \S.* left without NBD_CMD_DISC/;
    expect(await trial.fails({ status: 4, message, bytes: 4 * MiB })).toHaveLength(4 * MiB);
  });

  test("after NBD_CMD_DISC has left a complete stream", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    client.send(...requests);
    client.disconnect();
    client.socket.end();
    for (let i = 0; i < PIECES; i++) expect((await client.reply()).error).toBe(0);
    await trial.completes(DATA.subarray(0, 64 * KiB));
  });
});

describe("a second client while the first is in the middle of a WRITE", () => {
  test.each([4 * KiB, MiB])("of %d bytes waits, and both are whole", async (length) => {
    await using trial = await Trial.serve("FIFO");
    using first = await trial.client();
    using second = await trial.client();
    const half = length / 2;
    first.send(encodeRequest(NBD_CMD_WRITE, 0, length), DATA.subarray(0, half));
    await trial.settled();
    let answered = false;
    const writing = second.write(length, DATA.subarray(length, 2 * length)).finally(() => {
      answered = true;
    });
    await trial.settled();
    expect(answered).toBeFalse();
    first.send(DATA.subarray(half, length));
    expect((await first.reply()).error).toBe(0);
    expect(await writing).toBe(0);
    expect(await first.write(2 * length, DATA.subarray(2 * length, 3 * length))).toBe(0);
    for (const client of [first, second]) client.disconnect();
    await trial.completes(DATA.subarray(0, 3 * length));
  });

  test("gets an error when the first dies", async () => {
    await using trial = await Trial.serve("FIFO");
    await using first = start([...CHILD, trial.socket, "payload"]);
    await first.saying(/is in the payload/);
    using second = await trial.client();
    const writing = second.write(128 * KiB, DATA.subarray(128 * KiB, 192 * KiB));
    await trial.settled();
    await trial.signalChild("SIGKILL", first);
    expect(await writing).toBe(ERROR.EIO);
    const message = /truncated: the client's connection ended 32768 bytes before the end/;
    expect(await trial.fails({ status: 4, message, bytes: 96 * KiB })).toHaveLength(96 * KiB);
  });
});
