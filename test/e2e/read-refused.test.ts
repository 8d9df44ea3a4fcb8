/** What is no source is refused before the command starts: an exit status and one line that helps. */
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { copyFileSync, existsSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { bounded, type Ended, runProgram, start } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { expectRefused, NO_SCRIPT, onTerminal } from "../support/refused.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(folder.file("disk.raw"), 1024 * 1024);
});

/** A captive command that leaves a trace if it is started. */
const trace = folder.file("started");
const CAPTIVE = ["size=1M", "--", "touch", trace];
beforeEach(() => rmSync(trace, { force: true }));

describe("wrong usage is", () => {
  test.each([
    { read: "fd:x", says: "fd: takes a number" },
    { read: "fd:", says: "fd: takes a number" },
    { read: "tcp:x", says: "tcp: takes a host and a port" },
    { read: "tcp:127.0.0.1:0", says: "tcp: takes a host and a port" },
    { read: "tcp:::1:80", says: "tcp: takes a host and a port" },
    { read: "exec:", says: "exec: takes a command" },
    { read: "exec:  ", says: "exec: takes a command" },
  ])("read=$read", async ({ read, says }) => {
    expectRefusal(await run(read), 2, `read=${read}: ${says}`);
  });
});

describe("what is no source is", () => {
  test("a folder", async () => {
    expectRefusal(await run(folder.path), 3, "it is a folder");
  });

  test("a folder as standard input", async () => {
    const ended = await shell('program run read=- "$@" < .', CAPTIVE);
    expectRefusal(ended, 3, "read=- cannot be used: nothing can be read from it");
  });

  test("a path in a folder that does not exist", async () => {
    expectRefusal(await run(folder.file("missing/source.fifo")), 3, "check the folder");
  });

  test("a symbolic link to nothing", async () => {
    const link = folder.file("link");
    symlinkSync("nothing", link);
    expectRefusal(await run(link), 3, "it is a symbolic link to nothing");
  });

  test("a descriptor that is closed", async () => {
    expectRefusal(await run("fd:99"), 3, "descriptor 99 is not open", "99< FILE");
  });

  test.each([3, 4, 5, 6, 7, 8, 9, 10, 11, 12])(
    "fd:%d when the program was started without it, whatever it has opened itself",
    async (fd) => {
      expectRefusal(await run(`fd:${fd}`), 3, `read=fd:${fd} cannot be used`);
    },
  );

  test("a closed standard input", async () => {
    const ended = await shell('program run read=- "$@" <&-', CAPTIVE);
    expectRefusal(ended, 3, "read=- cannot be used: descriptor 0 is not open", "0< FILE");
  });

  test.each([
    { what: "a file", line: 'program run read=fd:3 "$@" 3> "$FILE"' },
    { what: "a pipe", line: '{ program run read=fd:3 "$@" 3>&1 >&4 | cat >&2; } 4>&1' },
    { what: "a file as standard input", line: 'program run read=- "$@" 0> "$FILE"' },
  ])("$what that is open for writing only", async ({ what, line }) => {
    const env = { FILE: folder.file("written") };
    const ended = await shell(`${line}; echo "status $?" >&2`, CAPTIVE, { env });
    expect(ended.stderr).toMatch(
      /^nbd-streaming: error: read=\S+ cannot be used: it is open for writing only; [^\n]+\nstatus \d\n$/,
    );
    // In a pipeline the shell tells of the last command only.
    if (what !== "a pipe") expect(ended.stderr).toEndWith("status 3\n");
    expect(existsSync(trace)).toBeFalse();
  });

  test.skipIf(NO_SCRIPT)("a terminal as standard input", async () => {
    const ended = await onTerminal(["run", "read=-", ...CAPTIVE]);
    expectRefusal(ended, 3, "read=- cannot be used: it is a terminal");
  });

  test.skipIf(NO_SCRIPT)("a terminal by its path", async () => {
    const ended = await onTerminal(["run", "read=/dev/tty", ...CAPTIVE]);
    expectRefusal(ended, 3, "read=/dev/tty cannot be used: it is a terminal");
  });
});

describe("a source where nobody is:", () => {
  test("a Unix socket without a listener", async () => {
    const path = folder.file("stale.sock");
    const program = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } })`;
    await start([process.execPath, "-e", `${program}; process.kill(process.pid, 9)`]).ended();
    expectRefusal(await run(path), 3, "nobody can be reached there", "first");
  });

  test("a TCP port without a listener", async () => {
    // As long as the port is taken on one address, nobody gets it by chance on the other.
    const server = createServer();
    await bounded(new Promise<void>((done) => server.listen(0, "127.0.0.1", done)), "a listener");
    const { port } = server.address() as { port: number };
    try {
      const ended = await run(`tcp:127.0.0.2:${port}`);
      expectRefusal(ended, 3, `read=tcp:127.0.0.2:${port}`, "nobody answers there", "first");
    } finally {
      server.close();
    }
  });

  test("a host that does not exist", async () => {
    // A name with a part of 64 letters cannot be asked for, so no name server is.
    const host = "h".repeat(64);
    expectRefusal(await run(`tcp:${host}:10809`), 3, `the host ${host} is not known`);
  });

  test("a FIFO without a writer is given up after --writer-timeout, and removed", async () => {
    using place = tempFolder();
    const words = ["run", "read=x", "size=1M", "--writer-timeout=0.3", "--", "nbdcopy", "$uri"];
    const { status, stderr } = await runProgram([...words, "out"], { cwd: place.path });
    expect(stderr).toMatch(/truncated: nobody has opened x for writing in 0\.3 s: .* first\n$/);
    expect([1, 4]).toContain(status);
    expect(existsSync(place.file("x"))).toBeFalse();
  });
});

describe("a command that cannot give anything:", () => {
  test.each([
    { what: "that does not exist", source: "exec:no-such-command", says: "failed with status 127" },
    { what: "that is a folder", source: "exec:/", says: "failed with status 126" },
    { what: "that fails", source: "exec:exit 9", says: "failed with status 9" },
    { what: "that is killed", source: "exec:kill -TERM $$", says: "was killed by SIGTERM" },
    { what: "that says nothing", source: "exec:true", says: "ended at byte 0 of size=1048576" },
  ])("one $what fails the client, and is named", async ({ source, says }) => {
    using place = tempFolder();
    const words = ["run", `read=${source}`, "size=1M", "--", "nbdcopy", "$uri", "out"];
    const { status, stderr } = await runProgram(words, { cwd: place.path });
    expect(status).toBe(1);
    expect(stderr).toContain("nbdcopy: read at offset 0 failed: Input/output error\n");
    const ours = stderr.split("\n").filter((line) => line.startsWith("nbd-streaming: "));
    expect(ours).toEqual([expect.stringMatching(/^nbd-streaming: error: 0 bytes .*: truncated: /)]);
    expect(ours[0]).toContain(`truncated: ${source} ${says}`);
  });
});

test("a FIFO that was made is gone after a command that cannot be started", async () => {
  using place = tempFolder();
  const words = ["run", "read=source.fifo", "size=1M", "--", "no-such-command", "$uri"];
  const ended = await runProgram(words, { cwd: place.path });
  expectRefusal(ended, 127, "cannot run no-such-command");
  expect(readdirSync(place.path)).toEqual([]);
});

test.each(["fd:3", "-", "exec:true", "tcp:x:1", "size=1"])(
  "a file that is called %s is read with ./ in front",
  async (name) => {
    using place = tempFolder();
    copyFileSync(disk.path, place.file(name));
    const words = ["run", `read=./${name}`, "--", "nbdcopy", "$uri", "out"];
    expect(await runProgram(words, { cwd: place.path })).toMatchObject({ status: 0 });
    expect(await digestFile(place.file("out"))).toBe(disk.sha256);
  },
);

/** Runs `run` with a command that must not be started. */
async function run(read: string): Promise<Ended> {
  return await runProgram(["run", `read=${read}`, ...CAPTIVE]);
}

function expectRefusal(ended: Ended, status: number, ...says: readonly string[]): void {
  expectRefused(ended, status, trace, ...says);
}
