/** TLS between a client and an endpoint of which one is slower than the other. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { eventually, type Running } from "../support/program.ts";
import { ReadTrial } from "../support/read-trial.ts";
import { tempFolder } from "../support/temp.ts";
import { type SecureClient, secureClient, secureTransmission } from "../support/tls-client.ts";
import { DATA, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** More than the program's heap grows by on its own, far less than what is under way. */
const FLAT = 48 * MiB;

const folder = tempFolder();
let pki: Certificates;
beforeAll(() => {
  pki = makeCertificates(folder.path);
});
afterAll(() => folder[Symbol.dispose]());

const required = () => ["--tls=require", `--tls-certificates=${pki.all}`];

function connect(socket: string): Promise<SecureClient> {
  return secureTransmission(socket, pki.authority.certificate);
}

/** The most memory that the program has had so far, in bytes. */
function peak({ process }: Running): number {
  const status = readFileSync(`/proc/${process.pid}/status`, "latin1");
  return Number(/VmHWM:\s+([0-9]+) kB/.exec(status)?.[1]) * 1024;
}

test("behind a reader that stalls the client waits, memory stays flat, and nothing is lost", async () => {
  const reader = "until [ -e gate ]; do sleep 0.02; done; cat";
  await using trial = await Trial.serve({ fifo: reader }, { args: required() });
  await using client = await connect(trial.socket);
  // Answered before anybody reads, so a pipe has to take it: that of a user with many has two pages (pipe(7)).
  const first = DATA.subarray(0, 4 * 1024);
  expect(await client.inside.write(0, first)).toBe(0);
  const before = peak(trial.program);
  const pieces = Array.from({ length: 96 }, (_, i) => Buffer.alloc(MiB, i));
  for (const [i, piece] of pieces.entries()) {
    client.inside.send(encodeWrite(first.length + i * MiB, piece));
  }
  await Bun.sleep(700);
  // What was sent is still with the client; the program has what pipes and sockets hold.
  expect(peak(trial.program) - before).toBeLessThan(FLAT);
  trial.openGate();
  for (const _ of pieces) expect((await client.inside.reply()).error).toBe(0);
  client.inside.disconnect();
  await trial.completes(Buffer.concat([first, ...pieces]));
});

test("behind a client that takes nothing memory stays flat, and it gets all once it does", async () => {
  const args = [...required(), "size=96M"];
  await using trial = await ReadTrial.serve({ path: "/dev/zero" }, { args });
  await using client = await connect(trial.socket);
  expect(await client.inside.read(0, MiB)).toEqual(Buffer.alloc(MiB));
  const before = peak(trial.program);
  client.inside.socket.pause();
  const piece = 16 * MiB;
  for (let at = MiB; at < 96 * MiB; at += piece) {
    const length = Math.min(piece, 96 * MiB - at);
    client.inside.send(encodeRequest(NBD_CMD_READ, at, length));
  }
  await Bun.sleep(700);
  expect(peak(trial.program) - before).toBeLessThan(FLAT);
  client.inside.socket.resume();
  for (let at = MiB; at < 96 * MiB; at += piece) {
    expect((await client.inside.reply()).error).toBe(0);
    const data = await client.inside.receive(Math.min(piece, 96 * MiB - at));
    expect(data.equals(Buffer.alloc(data.length))).toBeTrue();
  }
  client.inside.disconnect();
  expect((await trial.program.ended()).status).toBe(0);
});

describe("NBD_CMD_DISC behind a READ", () => {
  test.each([0, 300])("of 8 MiB gets it whole, by a client that waits for %d ms", async (pause) => {
    const args = [...required(), `size=${DATA.length}`];
    await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args });
    await using client = await connect(trial.socket);
    client.inside.socket.pause();
    client.inside.send(encodeRequest(NBD_CMD_READ, 0, DATA.length));
    client.inside.disconnect();
    await Bun.sleep(pause);
    client.inside.socket.resume();
    expect((await client.inside.reply()).error).toBe(0);
    expect((await client.inside.receive(DATA.length)).equals(DATA)).toBeTrue();
    await client.inside.closed();
    await trial.completes(DATA.length);
  });
});

test("a client that dies with a READ under way has truncated the stream", async () => {
  const args = [...required(), "size=128M"];
  await using trial = await ReadTrial.serve({ path: "/dev/zero" }, { args });
  await using client = await connect(trial.socket);
  client.inside.send(encodeRequest(NBD_CMD_READ, 0, 32 * MiB));
  expect((await client.inside.reply()).error).toBe(0);
  client.inside.socket.pause();
  client.below.socket.resetAndDestroy();
  await trial.fails({ status: 4, message: /truncated/ });
});

test("a client that takes nothing does not hold up the end of a stream that is broken", async () => {
  await using trial = await Trial.serve("FIFO", { args: [...required(), "size=1G"] });
  await using deaf = await connect(trial.socket);
  deaf.inside.socket.pause();
  deaf.inside.send(encodeRequest(NBD_CMD_READ, 512 * MiB, 32 * MiB));
  await using other = await connect(trial.socket);
  expect(await other.inside.write(0, DATA.subarray(0, MiB))).toBe(0);
  expect(await other.inside.write(0, DATA.subarray(0, MiB))).not.toBe(0);
  await trial.fails({ status: 4, message: /lies behind the stream/ });
});

describe("with --idle-timeout", () => {
  const idle = () => [...required(), "--idle-timeout=2"];

  test("a client that stops in the middle of a payload is cut off", async () => {
    await using trial = await Trial.serve("FIFO", { args: idle() });
    await using client = await connect(trial.socket);
    client.inside.send(encodeRequest(NBD_CMD_WRITE, 0, MiB), DATA.subarray(0, 1000));
    await client.inside.closed();
    await trial.fails({ status: 4, message: /truncated/ });
  });

  test("a client that takes no replies is cut off, and leaves no socket behind", async () => {
    const args = [...idle(), `size=${128 * MiB}`, "--no-pad", "--reconnect=60"];
    await using trial = await ReadTrial.serve({ path: "/dev/zero" }, { args });
    const { pid } = trial.program.process;
    const before = sockets(pid);
    await using client = await connect(trial.socket);
    client.inside.socket.pause();
    client.inside.send(encodeRequest(NBD_CMD_READ, 0, 32 * MiB));
    await trial.program.saying(/client 1 connected/);
    expect(sockets(pid)).toBe(before + 3);
    await trial.program.saying(/it has stopped in the middle of a request/);
    await eventually(() => sockets(pid) <= before, "its sockets to be closed");
  });
});

test.each([true, false])(
  "a client that does not close after a refusal leaves no socket behind: TLS %p",
  async (tls) => {
    const args = [...(tls ? required() : []), "-e", "disk"];
    await using trial = await Trial.serve("FIFO", { args });
    const { pid } = trial.program.process;
    const before = sockets(pid);
    const { certificate } = pki.authority;
    await using client = tls
      ? await secureClient(trial.socket, certificate)
      : await plainClient(trial.socket);
    expect(sockets(pid)).toBe(before + 1);
    client.inside.send(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("disc")));
    await client.inside.closed();
    await eventually(() => sockets(pid) === before, "its socket to be closed");
  },
);

async function plainClient(socket: string): Promise<SecureClient> {
  const client = await RawClient.connect(socket);
  await client.receive(18);
  client.send(Buffer.from([0, 0, 0, 3]));
  const close = () => Promise.resolve(client[Symbol.dispose]());
  return { inside: client, below: client, [Symbol.asyncDispose]: close };
}

/** Sockets of a process. */
function sockets(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((fd) => isSocket(`${folder}/${fd}`)).length;
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith("socket:");
  } catch {
    // It has just been closed.
    return false;
  }
}
