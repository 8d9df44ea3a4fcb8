/** Nobody reads what the program says: the stream goes on all the same, and so does its end. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  fstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { setNonBlocking } from "../../ffi/fd.ts";
import { Descriptors, fill, readAll } from "../ffi/descriptors.ts";
import { nbdcopy } from "../support/client-commands.ts";
import { rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { listeningAt } from "../support/proc.ts";
import { AS_NOBODY, noNobody } from "../support/nobody.ts";
import { bounded, command, eventually, PROGRAM } from "../support/program.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { noTerminal, Terminal } from "../support/terminal.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const disk = folder.file("disk.raw");
beforeAll(async () => {
  // The program is another user's in some of the tests.
  chmodSync(folder.path, 0o777);
  await rawImage(disk, MiB);
});

/** The program with a pipe for one of its descriptors that is full, and stays so until it is read. */
class Unread implements AsyncDisposable {
  readonly #descriptors = new Descriptors();
  readonly pipe = this.#descriptors.pipe();
  readonly process;

  /** @param before words that start the program */
  constructor(words: readonly string[], fd = 2, before: readonly string[] = []) {
    const { write } = this.pipe;
    fill(write);
    setNonBlocking(write, false);
    const stdio = [0, 1, 2, 3]
      .map((n) => (n === fd ? write : "ignore"))
      .slice(0, Math.max(3, fd + 1));
    this.process = Bun.spawn([...before, ...PROGRAM, ...words], {
      cwd: folder.path,
      stdio: stdio as ["ignore", "ignore", "ignore"],
    });
    // So that its end is the end of the pipe.
    this.#descriptors.close(write);
  }

  /** The exit status. */
  ended(): Promise<number> {
    return bounded(this.process.exited, "the program to end");
  }

  /** What was said, behind what had filled the pipe. */
  said(): string {
    return readAll(this.pipe.read).toString().replace(/^\0+/, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
    this.#descriptors[Symbol.dispose]();
  }
}

/** Says something else than NBD, of which the program tells. */
async function junk(socket: string): Promise<void> {
  using client = await RawClient.connect(socket);
  await client.receive(18);
  client.send(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
  await client.closed();
}

describe.each([
  { whose: "of ours", before: [] },
  // It cannot be opened a second time by its name in /proc.
  { whose: "of another user's (needs root)", before: AS_NOBODY },
])("a standard error $whose that nobody reads", ({ before }) => {
  const skipped = before.length > 0 && noNobody !== undefined;

  test.skipIf(skipped)("keeps no client from being served", async () => {
    const socket = folder.file(`serve-${before.length}.sock`);
    await using program = new Unread(
      ["serve", "pipe=exec:cat >/dev/null", "size=1M", "-U", socket, "-v"],
      2,
      before,
    );
    await listeningAt(socket);
    for (let i = 0; i < 50; i++) await junk(socket);
    await command(["nbdcopy", disk, `nbd+unix:///?socket=${socket}`]);
    expect(await program.ended()).toBe(0);
    expect(program.said()).toBe("");
  });

  test.skipIf(skipped)("keeps no signal from ending it", async () => {
    const socket = folder.file(`signal-${before.length}.sock`);
    await using program = new Unread(
      ["serve", "pipe=exec:cat >/dev/null", "size=1M", "-U", socket, "-v"],
      2,
      before,
    );
    await listeningAt(socket);
    await junk(socket);
    program.process.kill("SIGTERM");
    expect(await program.ended()).toBe(143);
    expect(existsSync(socket)).toBeFalse();
  });

  test.skipIf(skipped)(
    "has been read by the time of the last words: they are all there",
    async () => {
      const socket = folder.file(`late-${before.length}.sock`);
      await using program = new Unread(
        ["serve", "pipe=exec:cat >/dev/null", "size=1M", "-U", socket],
        2,
        before,
      );
      await listeningAt(socket);
      for (let i = 0; i < 3; i++) await junk(socket);
      let said = program.said();
      await command(["nbdcopy", disk, `nbd+unix:///?socket=${socket}`]);
      expect(await program.ended()).toBe(0);
      said += program.said();
      const lines = said.trimEnd().split("\n");
      expect(lines[0]).toStartWith("nbd-streaming: listening on ");
      expect(lines.filter((line) => line.includes("a connection was refused"))).not.toEqual([]);
      expect(lines.at(-1)).toMatch(/^nbd-streaming: 1048576 bytes .*: complete$/);
    },
  );
});

test.each([
  { how: "a complete stream", words: nbdcopy(disk), status: 0 },
  { how: "a truncated stream", words: ["--", "true"], status: 4 },
  { how: "a failed command", words: ["--", "sh", "-c", "exit 7"], status: 7 },
  { how: "wrong usage", words: ["size=lots", "--", "true"], status: 2 },
])("the status of $how is what it is, though nobody reads about it", async ({ words, status }) => {
  const all = ["run", "pipe=exec:cat >/dev/null", "--summary=json", "--progress=json", ...words];
  await using program = new Unread(all);
  expect(await program.ended()).toBe(status);
});

test("percentages that nobody reads keep nobody waiting", async () => {
  const words = ["run", "pipe=exec:cat >/dev/null", "size=1M", "--progress-fd=3", ...nbdcopy(disk)];
  await using program = new Unread(words, 3);
  expect(await program.ended()).toBe(0);
  expect(program.said()).toBe("");
});

test("SIGUSR1 that nobody reads the answer to keeps nobody waiting", async () => {
  const socket = folder.file("usr1.sock");
  await using program = new Unread(["serve", "pipe=exec:cat >/dev/null", "-U", socket]);
  await listeningAt(socket);
  for (let i = 0; i < 100; i++) program.process.kill("SIGUSR1");
  program.process.kill("SIGTERM");
  expect(await program.ended()).toBe(143);
});

test("a report of check that nobody reads does not keep a signal from ending it", async () => {
  const fifo = folder.file("check.fifo");
  await command(["mkfifo", fifo]);
  await using program = new Unread(["check", `pipe=${fifo}`], 1);
  // It has a description of its own for what it writes.
  const { ino } = fstatSync(program.pipe.read);
  const links = `/proc/${program.process.pid}/fd`;
  const leadThere = () =>
    readdirSync(links).filter((fd) => linkOf(`${links}/${fd}`) === `pipe:[${ino}]`);
  await eventually(() => leadThere().length === 2, "the report");
  program.process.kill("SIGTERM");
  expect(await program.ended()).toBe(143);
});

test.each(["2>&-", "2>/dev/full", "2>/dev/null"])("standard error may be %s", async (how) => {
  const line = `program run 'pipe=exec:cat >/dev/null' size=1M --progress=json "$@" ${how}; echo $?`;
  const ended = await shell(line, ["-v", ...nbdcopy(disk)], { cwd: folder.path });
  expect(ended.stdout).toBe("0\n");
});

test("a reader that has left is no trouble", async () => {
  const line = `exec 4>&1; { program run 'pipe=exec:cat >/dev/null' size=1M "$@" 2>&1 >&4; echo $? >&4; } | true`;
  const ended = await shell(line, ["-v", ...nbdcopy(disk)], { cwd: folder.path });
  expect(ended.stdout).toBe("0\n");
});

describe.skipIf(noTerminal !== undefined)("a terminal that is stopped (needs tmux)", () => {
  test.each(["", "--no-progress", "--progress=json"])(
    "keeps no signal from ending the program: %s",
    async (option) => {
      using place = tempFolder();
      writeFileSync(place.file("captive.sh"), "until [ -e gate ]; do sleep 0.02; done\n");
      const words = [...PROGRAM, "run", "pipe=exec:'cat >/dev/null'", "size=8M", "-v", option];
      const line = `${words.join(" ")} -P pid -- sh captive.sh; echo status $?`;
      using terminal = new Terminal(line, place.path, 80, 12);
      await terminal.showing(
        (rows) => rows.join("").trim() !== "" || option === "--no-progress",
        "it",
      );
      await eventually(() => existsSync(place.file("pid")), "the pid file");
      const pid = Number(readFileSync(place.file("pid"), "latin1"));
      terminal.press("C-s");
      // tmux tells its terminal some time later.
      await Bun.sleep(500);
      process.kill(pid, "SIGUSR1");
      process.kill(pid, "SIGTERM");
      await eventually(() => !existsSync(`/proc/${pid}`), "the program to end");
      terminal.press("C-q");
      await terminal.showing((rows) => rows.includes("status 143"), "the end");
    },
  );
});

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // It has been closed in the meantime.
    return undefined;
  }
}
