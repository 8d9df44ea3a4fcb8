/** `run` with a captive command: what the command is told, and what becomes of how it ends. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { mkfifo } from "../../ffi/pipe.ts";
import { type Image, rawImage } from "../support/images.ts";
import { type Ended, eventually, runProgram, start, startProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** The signal's bit in the masks of proc(5). */
const SIGPIPE_BIT = 1n << 12n;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.raw"), 8 * MiB);
});

describe("the command is told about the server", () => {
  const print = 'printf "%s\\n" "$nbd" "$uri" "$unixsocket" "$port" "$exportname"';

  test("in its environment, with a private Unix socket", async () => {
    const [nbd, uri, socket, ...others] = linesOf(await runCaptive([print], ["-e", "disk one"]));
    expect(socket).toMatch(/^\/.*\/nbd\.sock$/);
    expect(nbd).toBe(`nbd+unix:///disk%20one?socket=${socket}`);
    expect(uri).toBe(nbd);
    expect(others).toEqual(["", "disk one", ""]);
  });

  test("in its environment, with a TCP port", async () => {
    const [nbd, uri, ...others] = linesOf(await runCaptive([print], ["-p", "0"]));
    const [, port] = /^nbd:\/\/127\.0\.0\.1:([1-9][0-9]*)\/$/.exec(nbd ?? "") ?? [];
    expect(uri).toBe(nbd);
    expect(others).toEqual(["", port as string, "", ""]);
  });

  test("in its words, in place of $name and ${name}", async () => {
    const words = ["$uri", "${nbd}", "[$port]", "x${exportname}y", "$unixsocket.bak"];
    const ended = await runCaptive(["printf", "%s\\n", ...words], ["-p", "0", "-e", "one"]);
    const [uri, nbd, ...others] = linesOf(ended);
    const [, port] = /^nbd:\/\/127\.0\.0\.1:([1-9][0-9]*)\/one$/.exec(uri ?? "") ?? [];
    expect(nbd).toBe(uri);
    expect(others).toEqual([`[${port}]`, "xoney", ".bak", ""]);
  });
});

test("several words are executed as they are, without a shell", async () => {
  const words = ["$HOME", "a b*", "`id`", "$(id)", "$nbdx", "${HOME}", "'", "\\", "", "~"];
  const ended = await runCaptive(["printf", "%s\\n", ...words]);
  expect(linesOf(ended)).toEqual([...words, ""]);
});

test("one word is a command line for the shell", async () => {
  expect(linesOf(await runCaptive(['for i in 1 2; do echo "$i-$((i + 1))"; done']))).toEqual([
    "1-2",
    "2-3",
    "",
  ]);
});

test.each(["--help", "-V", "--version", "-h"])("%s after -- is the command's", async (option) => {
  const { stdout } = await runCaptive(["printf", "[%s]", option]);
  expect(stdout).toBe(`[${option}]`);
});

test("a second -- is the command's", async () => {
  expect((await runCaptive(["printf", "[%s]", "a", "--", "b"])).stdout).toBe("[a][--][b]");
});

test("the command has SIGPIPE at its default", async () => {
  const { stdout } = await runCaptive(["cat", "/proc/self/status"]);
  const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(stdout)?.[1];
  expect(BigInt(`0x${ignored}`) & SIGPIPE_BIT).toBe(0n);
});

describe("a command that fails", () => {
  test.each([
    { how: "exits with 7 before it connects", line: "exit 7", status: 7 },
    { how: "exits with 255", line: "exit 255", status: 255 },
    { how: "exits with 9 after a complete copy", line: 'nbdcopy "$0" "$1"; exit 9', status: 9 },
    { how: "is killed with SIGKILL", line: "kill -KILL $$", status: 128 + 9 },
    { how: "is killed with SIGTERM", line: "kill -TERM $$", status: 128 + 15 },
  ])("and $how gives status $status", async ({ line, status }) => {
    const ended = await runCaptive(["sh", "-c", line, disk.path, "$uri"]);
    expect(ended).toMatchObject({ status, stderr: expect.stringContaining("truncated") });
  });

  test("because it does not exist gives status 127", async () => {
    expect(await runCaptive(["no-such-command", "$uri"])).toMatchObject({
      status: 127,
      stderr: expect.stringContaining("no-such-command"),
    });
  });

  test("because the shell does not find it gives status 127", async () => {
    expect(await runCaptive(['no-such-command "$uri"'])).toMatchObject({ status: 127 });
  });

  test("because it is not executable gives status 126", async () => {
    expect(await runCaptive([disk.path, "$uri"])).toMatchObject({
      status: 126,
      stderr: expect.stringContaining(disk.path),
    });
  });
});

test("a command that never connects gives status 4 and says so", async () => {
  expect(await runCaptive(["true", "$uri"])).toMatchObject({
    status: 4,
    stderr: expect.stringContaining("without connecting"),
  });
});

test("a command that exits with 0 after its client was refused a write gives status 4", async () => {
  const line = `qemu-io -f raw -c 'write 1M 1M' -c 'write 0 1M' "$uri"; exit 0`;
  expect(await runCaptive([line])).toMatchObject({
    status: 4,
    stderr: expect.stringMatching(/truncated: .*WRITE of 1048576 bytes at 0 lies behind/),
  });
});

test("a reader that goes away fails the run, and the command does not stay", async () => {
  using folder = tempFolder();
  const fifo = folder.file("stream.fifo");
  mkfifo(fifo, 0o600);
  await using _reader = start(["sh", "-c", 'head -c 1 < "$0"', fifo]);
  const line = `echo $$ > '${folder.file("pid")}'; exec nbdcopy '${disk.path}' "$uri"`;
  const { status, stderr } = await runProgram(["run", `pipe=${fifo}`, "--", line]);
  // Its own status if nbdcopy has ended by itself in time, otherwise the program's.
  expect([1, 4]).toContain(status);
  expect(stderr).toContain("went away");
  await eventually(() => !alive(pidIn(folder.file("pid"))), "the command to be gone");
});

describe("the private socket's folder", () => {
  test.each([
    { end: "a complete stream", line: 'nbdcopy "$0" "$1"', status: 0 },
    { end: "a failed command", line: "exit 7", status: 7 },
  ])("is the user's alone, and gone after $end", async ({ line, status }) => {
    using tmp = tempFolder();
    const look = 'stat -c "%a %u %n" "$(dirname "$2")"; ';
    const ended = await runCaptive(
      ["sh", "-c", look + line, disk.path, "$uri", "$unixsocket"],
      [],
      { TMPDIR: tmp.path },
    );
    expect(ended.status).toBe(status);
    const [mode, uid, path = ""] = ended.stdout.trimEnd().split(" ");
    expect([mode, uid, dirname(path)]).toEqual(["700", String(process.getuid?.()), tmp.path]);
    expect(readdirSync(tmp.path)).toEqual([]);
  });
});

describe("a client that the command leaves behind", () => {
  test("does not hang the run when it holds the connection", async () => {
    using folder = tempFolder();
    const [pid, gate] = [folder.file("pid"), folder.file("gate")];
    // It outlives WAIT_LIMIT, so a run that waited for it would not end in time.
    const hold = `qemu-io -f raw -c 'write 0 64k' -c 'sleep 60000' "$uri"`;
    const line = `${hold} & echo $! > '${pid}'; ${waitFor(gate)}`;
    const fifo = folder.file("stream.fifo");
    await using _reader = digestFifo(fifo);
    await using program = startProgram(["run", "-v", `pipe=${fifo}`, "--", line]);
    await program.saying(/client 1 connected/);
    writeFileSync(gate, "");
    expect(await program.ended()).toMatchObject({
      status: 4,
      stderr: expect.stringContaining("left behind is still connected"),
    });
    await eventually(() => !alive(pidIn(pid)), "the client to be gone");
  });

  test("is waited for while it goes on writing", async () => {
    using folder = tempFolder();
    const fifo = folder.file("stream.fifo");
    const [pid, gate] = [folder.file("pid"), folder.file("gate")];
    const line = `nbdcopy '${disk.path}' "$uri" & echo $$ > '${pid}'; ${waitFor(gate)}`;
    await using program = startProgram(["run", "-v", `pipe=${fifo}`, "--", line]);
    await program.saying(/client 1 connected/);
    writeFileSync(gate, "");
    await eventually(() => !alive(pidIn(pid)), "the command to end");
    // Only now is there a reader: until here the client cannot have been done.
    await using digest = digestFifo(fifo);
    expect(await program.ended()).toMatchObject({ status: 0 });
    expect(await digest.sha256()).toBe(disk.sha256);
  });
});

/** Runs `run` with a reader for its FIFO. */
async function runCaptive(
  captive: readonly string[],
  options: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Ended> {
  using folder = tempFolder();
  const fifo = folder.file("stream.fifo");
  await using _reader = digestFifo(fifo);
  return await runProgram(["run", `pipe=${fifo}`, ...options, "--", ...captive], { env });
}

function linesOf({ stdout }: Ended): string[] {
  return stdout.split("\n");
}

/** Shell words that wait until a file exists. */
function waitFor(path: string): string {
  return `until [ -e '${path}' ]; do sleep 0.02; done`;
}

function pidIn(path: string): number {
  return Number(readFileSync(path, "utf8"));
}

function alive(pid: number): boolean {
  try {
    // A process that has ended but that nobody has reaped yet is there, with no command line.
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}
