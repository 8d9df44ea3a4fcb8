import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { bytesReadable, close, open } from "../../ffi/fd.ts";
import { NBD_CMD_WRITE } from "../../src/protocol/constants.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeRequest } from "../support/wire.ts";
import { eventually, PROGRAM, type Running, start, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** Seconds beyond every bound of a test: a program that waits for a client to be cut off does not pass. */
const NEVER = ["--negotiation-timeout=600", "--idle-timeout=600"];

let folder: ReturnType<typeof tempFolder>;

beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

/** A program that listens, and everything that it may leave behind. */
async function listening(): Promise<{ program: Running; fifo: string; socket: string }> {
  const fifo = folder.file("fifo");
  const socket = folder.file("socket");
  const program = startProgram(["serve", `pipe=${fifo}`, "-U", socket, ...NEVER]);
  await program.saying(/listening on/);
  return { program, fifo, socket };
}

async function expectOrderlyEnd(program: Running, signal: NodeJS.Signals): Promise<void> {
  program.process.kill(signal);
  const { status, stderr } = await program.ended();
  expect(status).toBe(128 + constants.signals[signal]);
  expect(stderr).toMatch(new RegExp(`: ended by ${signal}\n$`));
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

test("a signal for all processes, as systemd may send it, is told when the command of exec: dies of it first", async () => {
  const sink = `exec:cat > '${folder.file("part")}'; echo $$ > '${folder.file("pid")}'; exec sleep 1000`;
  const words = ["run", `pipe=${sink}`, "--", "nbdcopy", "-", "$uri"];
  await using program = start([...PROGRAM, ...words], { group: true });
  await eventually(() => existsSync(folder.file("pid")), "all to be read");
  process.kill(Number(readFileSync(folder.file("pid"), "latin1")), "SIGTERM");
  process.kill(program.process.pid, "SIGTERM");
  const { status, stderr } = await program.ended();
  expect(stderr).toMatch(/truncated: ended by SIGTERM\n$/);
  expect(status).toBe(128 + constants.signals.SIGTERM);
});

/** A command that would take the end of its input for the end of the stream. */
const sink = () => `exec:cat > '${folder.file("part")}'; echo whole > '${folder.file("done")}'`;

/** Those that end a program by default, and are less common. */
const OTHERS = [
  ...["SIGQUIT", "SIGABRT", "SIGALRM", "SIGIO", "SIGPROF", "SIGSYS"],
  ...["SIGUSR2", "SIGVTALRM", "SIGXCPU"],
] as NodeJS.Signals[];

test.each(OTHERS)("%s ends the stream in order, and leaves nothing", async (signal) => {
  const socket = folder.file("socket");
  await using program = startProgram(["serve", `pipe=${sink()}`, "-U", socket]);
  await program.saying(/listening on/);
  using client = await RawClient.transmission(socket);
  expect(await client.write(0, Buffer.from("hello"))).toBe(0);
  // The pipe has taken it; whether the command has got to its first step is another matter.
  await eventually(() => existsSync(folder.file("part")), "the command");
  program.process.kill(signal);
  const { status, stderr } = await program.ended();
  expect(stderr).toMatch(new RegExp(`truncated: ended by ${signal}\n$`));
  expect(status).toBe(128 + constants.signals[signal]);
  expect(readdirSync(folder.path)).toEqual(["part"]);
});

test(
  "SIGQUIT and its like ask the captive command to end, and do not have it dump core",
  async () => {
    const told = folder.file("told");
    const captive = `trap 'echo TERM > "${told}"; exit' TERM; echo ready >&2; sleep 60 & wait`;
    await using program = startProgram(["run", `pipe=${sink()}`, "--", captive]);
    await program.saying(/ready/);
    program.process.kill("SIGQUIT");
    expect((await program.ended()).status).toBe(128 + constants.signals.SIGQUIT);
    expect(readFileSync(told, "latin1")).toBe("TERM\n");
  },
  // The program kills soon after it has asked.
  IN_TIME,
);

test(
  "the processes of exec: are killed before the captive command is asked to end",
  async () => {
    const pid = folder.file("pid");
    const state = folder.file("state");
    const captive = folder.file("captive");
    writeFileSync(
      captive,
      `trap 'cut -d " " -f 3 < "/proc/$(cat "${pid}")/stat" > "${state}"; exit' TERM
       until [ -s "${pid}" ]; do sleep 0.01; done
       echo ready >&2; sleep 60 & wait`,
    );
    const command = `exec:echo $$ > '${pid}'; exec cat > '${folder.file("part")}'`;
    await using program = startProgram(["run", `pipe=${command}`, "--", "sh", captive]);
    await program.saying(/ready/);
    program.process.kill("SIGTERM");
    expect((await program.ended()).status).toBe(143);
    // A zombie, or stopped and about to be one: in any case it does not run.
    expect(readFileSync(state, "latin1")).toMatch(/^[ZXT]\n$/);
  },
  IN_TIME,
);

describe("signals that end nothing:", () => {
  /** Starts the program with what comes before it, sends it a signal, and completes the stream. */
  async function survives(before: string[], signals: (NodeJS.Signals | number)[]): Promise<string> {
    const socket = folder.file("socket");
    const words = ["serve", `pipe=${sink()}`, "size=5", "-U", socket];
    await using program = start([...before, ...PROGRAM, ...words]);
    await program.saying(/listening on/);
    for (const signal of signals) process.kill(program.process.pid, signal as NodeJS.Signals);
    using client = await RawClient.transmission(socket);
    expect(await client.write(0, Buffer.from("hello"))).toBe(0);
    for (const signal of signals) process.kill(program.process.pid, signal as NodeJS.Signals);
    client.disconnect();
    const { status, stderr } = await program.ended();
    expect(stderr).toMatch(/: complete\n$/);
    expect(status).toBe(0);
    expect(existsSync(folder.file("done"))).toBe(true);
    return stderr;
  }

  test("those that the program was started with ignored", async () => {
    const ignored = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGALRM"] as NodeJS.Signals[];
    const names = ignored.map((signal) => signal.slice(3)).join();
    const stderr = await survives(["env", `--ignore-signal=${names}`], ignored);
    expect(stderr).not.toMatch(/waiting for a client|, 0 B/);
  });

  test("SIGPIPE, SIGXFSZ, SIGCHLD, SIGWINCH, SIGCONT, SIGURG", async () => {
    await survives([], ["SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGWINCH", "SIGCONT", "SIGURG"]);
  });

  test("SIGPWR, with which Bun stops its threads to collect garbage", async () => {
    await survives([], [constants.signals.SIGPWR]);
  });
});

test("what was ignored stays so in the commands, and nothing else is", async () => {
  const ignored = `sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status`;
  const words = [
    "run",
    `pipe=exec:${ignored} > '${folder.file("sink")}'; cat > /dev/null`,
    "size=512",
    "--",
    `${ignored} > '${folder.file("captive")}'; nbdcopy /dev/null "$uri" || exec nbdinfo "$uri"`,
  ];
  await using program = start(["env", "--ignore-signal=HUP,INT", ...PROGRAM, ...words]);
  await program.ended();
  for (const who of ["sink", "captive"]) {
    const mask = BigInt(`0x${readFileSync(folder.file(who), "latin1").trim()}`);
    // The C library has two for itself, from 32 on.
    expect([who, (mask & 0x7fff_ffffn).toString(2)]).toEqual([who, "11"]);
  }
});

test.skipIf(Bun.which("python3") === null)(
  "a signal that was blocked when the program was started ends it all the same (needs python3)",
  async () => {
    const line =
      "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.execvp(sys.argv[1], sys.argv[1:])";
    const words = ["serve", `pipe=${sink()}`, "-U", folder.file("socket")];
    await using program = start(["python3", "-c", line, ...PROGRAM, ...words]);
    await program.saying(/listening on/);
    program.process.kill("SIGTERM");
    expect((await program.ended()).status).toBe(143);
  },
);

test("a stream is complete, or fails as it should, where the program was started with SIGCHLD ignored", async () => {
  const sleepy = ["env", "--ignore-signal=CHLD", ...PROGRAM];
  writeFileSync(folder.file("disk"), Buffer.alloc(512, 7));
  const run = (captive: string) =>
    start([...sleepy, "run", `pipe=${sink()}`, "size=512", "--", captive]);
  await using failing = run("exit 3");
  expect((await failing.ended()).status).toBe(3);
  expect(existsSync(folder.file("done"))).toBe(false);
  await using good = run(`nbdcopy '${folder.file("disk")}' "$uri"`);
  expect((await good.ended()).status).toBe(0);
  expect(existsSync(folder.file("done"))).toBe(true);
  await using image = start([...sleepy, "run", `pipe=${sink()}`, "-f", "raw", folder.file("disk")]);
  expect((await image.ended()).status).toBe(0);
});
