import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants } from "node:os";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { bytesReadable, close, open } from "../../ffi/fd.ts";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { encodeRequest, RawClient } from "../support/nbd-client.ts";
import { eventually, PROGRAM, type Running, start, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** Far more than the program takes, far less than anything that waits for a client or a reader. */
const SOON = 5_000;

let folder: ReturnType<typeof tempFolder>;

beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

/** A program that listens, and everything that it may leave behind. */
async function listening(): Promise<{ program: Running; fifo: string; socket: string }> {
  const fifo = folder.file("fifo");
  const socket = folder.file("socket");
  const program = startProgram(["serve", `pipe=${fifo}`, "-U", socket]);
  await program.saying(/listening on/);
  return { program, fifo, socket };
}

async function expectOrderlyEnd(program: Running, signal: NodeJS.Signals): Promise<void> {
  const before = performance.now();
  program.process.kill(signal);
  const { status, stderr } = await program.ended();
  expect(status).toBe(128 + constants.signals[signal]);
  expect(performance.now() - before).toBeLessThan(SOON);
  expect(stderr).not.toContain("    at ");
  expect(readdirSync(folder.path)).toEqual([]);
}

describe.each(SIGNALS)("%s ends serve in order", (signal) => {
  test("without a client and without a reader", async () => {
    const { program } = await listening();
    await using _ = program;
    await expectOrderlyEnd(program, signal);
  });

  test("with a client that says nothing", async () => {
    const { program, socket } = await listening();
    await using _ = program;
    using client = await RawClient.connect(socket);
    await client.receive(18);
    await expectOrderlyEnd(program, signal);
  });

  test("with a client in the middle of negotiation", async () => {
    const { program, socket } = await listening();
    await using _ = program;
    using client = await RawClient.connect(socket);
    client.send(Buffer.from("0000000349484156454f505400", "hex"));
    await client.receive(18);
    await expectOrderlyEnd(program, signal);
  });

  test("with an idle client", async () => {
    const { program, socket } = await listening();
    await using _ = program;
    using client = await RawClient.transmission(socket);
    expect(await client.flush()).toBe(0);
    await expectOrderlyEnd(program, signal);
  });

  test("with a client that waits for a reader", async () => {
    const { program, socket } = await listening();
    await using _ = program;
    using client = await RawClient.transmission(socket);
    client.send(encodeRequest(NBD_CMD_WRITE, 0, 5), Buffer.from("hello"));
    await program.saying(/waiting for a reader/);
    await expectOrderlyEnd(program, signal);
  });

  test("in the middle of a payload", async () => {
    const { program, socket, fifo } = await listening();
    await using _ = program;
    const reader = open(fifo, O_RDONLY | O_NONBLOCK);
    using client = await RawClient.transmission(socket);
    client.send(encodeRequest(NBD_CMD_WRITE, 0, 1 << 20), Buffer.alloc(5000, 1));
    // The answer to a second client tells that the engine has been at the first.
    using other = await RawClient.transmission(socket);
    expect(await other.flush()).toBe(0);
    await expectOrderlyEnd(program, signal);
    close(reader);
  });

  test("with a stalled reader", async () => {
    const { program, socket, fifo } = await listening();
    await using _ = program;
    const reader = open(fifo, O_RDONLY | O_NONBLOCK);
    using client = await RawClient.transmission(socket);
    const length = 1 << 25;
    client.send(encodeRequest(NBD_CMD_WRITE, 0, length), Buffer.alloc(length, 1));
    await eventually(() => bytesReadable(reader) > 0, "the pipe to fill");
    await expectOrderlyEnd(program, signal);
    close(reader);
  });

  test("in the middle of a gap that would take years", async () => {
    const { program, socket, fifo } = await listening();
    await using _ = program;
    const reader = Bun.spawn({ cmd: ["sh", "-c", 'exec cat "$0" > /dev/null', fifo] });
    using client = await RawClient.transmission(socket);
    client.send(encodeRequest(NBD_CMD_WRITE, 2n ** 62n, 1), Buffer.from("x"));
    using other = await RawClient.transmission(socket);
    expect(await other.flush()).toBe(0);
    await expectOrderlyEnd(program, signal);
    await reader.exited;
  });
});

describe.each(SIGNALS)("%s ends run in order", (signal) => {
  test("with all that the command has started", async () => {
    const fifo = folder.file("fifo");
    const pids = folder.file("pids");
    // A shell with a child and a grandchild, of which two do not care for signals.
    const command = `trap "" TERM INT HUP; sh -c 'sleep 60 & echo $! >> "${pids}"; wait' & echo $! >> "${pids}"; echo $$ >> "${pids}"; wait; sleep 60`;
    await using program = startProgram(["run", `pipe=${fifo}`, "--", command]);
    const read = () => (existsSync(pids) ? readFileSync(pids, "latin1") : "");
    await eventually(() => read().split("\n").length === 4, "three processes");
    const started = read().trim().split("\n").map(Number);
    program.process.kill(signal);
    const { status } = await program.ended();
    expect(status).toBe(128 + constants.signals[signal]);
    await eventually(() => started.every((pid: number) => !alive(pid)), "the processes to go");
    expect(existsSync(fifo)).toBeFalse();
    rmSync(pids);
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("a signal for all, as a terminal sends it, is told when the command of exec: dies of it first", async () => {
  const sink = `exec:cat > '${folder.file("part")}'; echo all is read >&2; exec sleep 1000`;
  const words = ["run", `pipe=${sink}`, "--", "nbdcopy", "-", "$uri"];
  await using program = start([...PROGRAM, ...words], { group: true });
  await program.saying(/all is read/);
  process.kill(-program.process.pid, "SIGTERM");
  const { status, stderr } = await program.ended();
  expect(stderr).toMatch(/truncated: ended by SIGTERM\n$/);
  expect(status).toBe(128 + constants.signals.SIGTERM);
});
