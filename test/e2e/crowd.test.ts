/** Many connections at a time, or one after the other. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { NBD_CMD_WRITE, NBD_OPT_GO } from "../../src/protocol/constants.ts";
import { infoRequest } from "../handshake/conversation.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";
import { eventually, PROGRAM, start, WAIT_LIMIT } from "../support/program.ts";
import { anonymousMemory, openDescriptors, processorTicks } from "../support/proc.ts";
import { tempFolder } from "../support/temp.ts";
import { DATA, Trial } from "../support/trial.ts";

/** NBD_STREAMING_VISITORS=10000 is for a longer look. */
const VISITORS = Number(process.env.NBD_STREAMING_VISITORS ?? 400);

setDefaultTimeout(LIMIT + 50 * VISITORS);

const MiB = 1024 * 1024;

const FLAGS = Buffer.from([0, 0, 0, 3]);
const GO = encodeOption(NBD_OPT_GO, infoRequest("", [3]));

/** What visitors say before they go; the last ones get into transmission. */
const WORDS = [
  Buffer.alloc(0),
  Buffer.from("GET / HTTP/1.1\r\n\r\n"),
  FLAGS,
  Buffer.concat([FLAGS, GO.subarray(0, 20)]),
  Buffer.concat([FLAGS, GO]),
  Buffer.concat([FLAGS, GO, Buffer.alloc(28, 0xff)]),
  Buffer.concat([FLAGS, GO, encodeRequest(NBD_CMD_WRITE, 0, 4096).subarray(0, 20)]),
];

/** Comes, says its words, and goes in one of three ways. */
async function visit(socket: string, number: number): Promise<void> {
  const client = await RawClient.connect(socket);
  await client.receive(18);
  client.send(WORDS[number % WORDS.length] as Buffer);
  if (number % 3 === 0) client.socket.end();
  else if (number % 3 === 1) client.socket.resetAndDestroy();
  else await Bun.sleep(number % 2);
  client[Symbol.dispose]();
}

test(`${VISITORS} connections that come and go leave a stream and its server as they were`, async () => {
  await using trial = await Trial.serve("FIFO", { args: ["--checksum", "sha256"] });
  const { pid } = trial.program.process;
  using writer = await trial.client();
  const step = Math.ceil(DATA.length / VISITORS);
  let memory = 0;
  let descriptors = 0;
  for (let i = 0; i < VISITORS; i++) {
    const at = i * step;
    const [error] = await Promise.all([
      writer.write(at, DATA.subarray(at, at + step)),
      visit(trial.socket, i),
    ]);
    expect(error).toBe(0);
    if (i !== Math.floor(VISITORS / 4)) continue;
    await trial.settled();
    memory = anonymousMemory(pid);
    descriptors = openDescriptors(pid);
  }
  await trial.settled();
  await eventually(
    () => openDescriptors(pid) <= descriptors,
    "the visitors' descriptors to be closed",
  );
  const grown = anonymousMemory(pid) - memory;
  expect(grown).toBeLessThan(32 * MiB);
  writer.disconnect();
  const whole = DATA.subarray(0, Math.min(DATA.length, VISITORS * step));
  const { stderr } = await trial.completes(whole);
  expect(stderr).toContain(new Bun.CryptoHasher("sha256").update(whole).digest("hex"));
  if (process.env.NBD_STREAMING_VISITORS !== undefined) {
    console.log(
      `${VISITORS} visitors, from a quarter on: ${grown} bytes, ${descriptors} descriptors`,
    );
  }
});

test("clients that choose the export and are gone leave their places to others at once", async () => {
  const args = ["--max-connections", "3", "--negotiation-timeout", "600"];
  await using trial = await Trial.serve("FIFO", { args });
  for (let i = 0; i < 30; i++) {
    using client = await trying(() => RawClient.negotiating(trial.socket));
    client.send(GO);
    client.socket.resetAndDestroy();
  }
  using writer = await trying(() => trial.client());
  expect(await writer.write(0, DATA.subarray(0, MiB))).toBe(0);
  writer.disconnect();
  await trial.completes(DATA.subarray(0, MiB));
});

describe("with 64 descriptors", () => {
  /** Connects so often at once, says nothing, and knows which are still connected. */
  function crowd(where: { path: string } | { port: number; host: string }, count: number) {
    const open = new Set<Socket>();
    const all = Array.from({ length: count }, () => {
      const socket = createConnection(where);
      open.add(socket);
      socket.on("error", () => {});
      socket.on("data", () => {});
      socket.on("close", () => open.delete(socket));
      return socket;
    });
    return {
      open,
      [Symbol.dispose]() {
        for (const socket of all) socket.destroy();
      },
    };
  }

  test.each(["Unix socket", "TCP"])(
    "200 connections by %s are too many, and no more",
    async (by) => {
      const tcp = by === "TCP";
      const options = { args: ["--max-connections", "150"], shell: "ulimit -n 64; " };
      const listen = tcp ? { listen: ["-p", "0"] } : {};
      await using trial = await Trial.serve("FIFO", { ...options, ...listen });
      const { program } = trial;
      const { pid } = program.process;
      const port = Number(/127\.0\.0\.1:(\d+)/.exec(program.stderr)?.[1]);
      const where = tcp ? { port, host: "127.0.0.1" } : { path: trial.socket };
      {
        using visitors = crowd(where, 200);
        await program.saying(
          /a connection was refused: \d+ are open \(ulimit -n has room for no more\)/,
        );
        await eventually(() => visitors.open.size < 64, "those too many to be refused");
        expect(visitors.open.size).toBeGreaterThan(5);
        const before = processorTicks(pid);
        await Bun.sleep(500);
        // Half of what it could have had, were it told of a client again and again.
        expect(processorTicks(pid) - before).toBeLessThan(25);
      }
      const part = DATA.subarray(0, MiB);
      using writer = await trying(() => RawClient.transmission(tcp ? port : trial.socket));
      expect(await writer.write(0, part)).toBe(0);
      writer.disconnect();
      await trial.completes(part);
    },
  );

  test("streams for which they are too few do not begin, and leave nothing", async () => {
    using folder = tempFolder();
    const streams = ["vda", "vdb", "vdc", "vdd"].flatMap((name) => ["-e", name, `pipe=${name}`]);
    await using program = start(
      ["sh", "-c", 'ulimit -n 56; exec "$0" "$@"', ...PROGRAM, "serve", ...streams, "-U", "socket"],
      { cwd: folder.path },
    );
    const { status, stderr } = await program.ended();
    expect(stderr).toMatch(
      /^nbd-streaming: error: 4 streams need up to \d+ descriptors, and ulimit -n has room for 56: raise it\n$/,
    );
    expect(status).toBe(3);
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

/** The others have to be missed first. */
async function trying<T>(work: () => Promise<T>): Promise<T> {
  for (const until = performance.now() + WAIT_LIMIT; ;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > until) throw error;
      await Bun.sleep(20);
    }
  }
}
