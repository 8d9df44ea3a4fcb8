/** What is no sink is refused before anything starts: an exit status and one line that helps. */
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { existsSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { type Image, rawImage } from "../support/images.ts";
import { bounded, type Ended, runProgram } from "../support/program.ts";
import { expectRefused, NO_SCRIPT, onTerminal } from "../support/refused.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(folder.file("disk.raw"), MiB);
});

/** A captive command that leaves a trace if it is started. */
const trace = folder.file("started");
const CAPTIVE = ["--", "touch", trace];
beforeEach(() => rmSync(trace, { force: true }));

describe("what is no sink", () => {
  test.each([
    { pipe: "fd:x", says: "fd: takes a number" },
    { pipe: "fd:", says: "fd: takes a number" },
    { pipe: "fd:-1", says: "fd: takes a number" },
    { pipe: "tcp:x", says: "tcp: takes a host and a port" },
    { pipe: "tcp:127.0.0.1:0", says: "tcp: takes a host and a port" },
    { pipe: "tcp:127.0.0.1:65536", says: "tcp: takes a host and a port" },
    { pipe: "tcp:::1:80", says: "tcp: takes a host and a port" },
    { pipe: "exec:", says: "exec: takes a command" },
    { pipe: "exec:  ", says: "exec: takes a command" },
  ])("pipe=$pipe is refused as wrong usage", async ({ pipe, says }) => {
    expectRefusal(await run(pipe), 2, `pipe=${pipe}: ${says}`);
  });

  test("a regular file is refused with the way to write to it, and stays as it is", async () => {
    const hint = `pipe=- > ${disk.path}`;
    expectRefusal(await run(disk.path), 3, "it is a regular file", hint);
    expect(Bun.SHA256.hash(readFileSync(disk.path), "hex")).toBe(disk.sha256);
  });

  test("a folder is refused", async () => {
    expectRefusal(await run(folder.path), 3, "it is a folder");
  });

  test("a path in a folder that does not exist is refused", async () => {
    expectRefusal(await run(folder.file("missing/stream.fifo")), 3, "check the folder");
  });

  test.each(
    [false, true].flatMap((hold) => [
      { hold, path: "disk.raw/x", says: "ENOTDIR" },
      { hold, path: "loop", says: "ELOOP" },
      { hold, path: "x".repeat(300), says: "ENAMETOOLONG" },
    ]),
  )("a path that leads nowhere is refused ($says, --hold: $hold)", async ({ hold, path, says }) => {
    const options = hold ? ["--hold", `spool=${folder.path}`] : [];
    rmSync(folder.file("loop"), { force: true });
    symlinkSync("loop", folder.file("loop"));
    expectRefusal(await run(folder.file(path), options), 3, says);
  });

  test("a descriptor that is closed is refused", async () => {
    expectRefusal(await run("fd:99"), 3, "descriptor 99 is not open");
  });

  test.each([3, 4, 5, 6, 7, 8, 9, 10, 11, 12])(
    "fd:%d is refused when the program was started without it, whatever it has opened itself",
    async (fd) => {
      // With an IMAGE, another program has run before the sink is opened.
      const image = await runProgram(["run", `pipe=fd:${fd}`, disk.path]);
      expectRefusal(image, 3, `pipe=fd:${fd} cannot be used`);
      expectRefusal(await run(`fd:${fd}`), 3, `pipe=fd:${fd} cannot be used`);
    },
  );

  test("a closed standard output is refused", async () => {
    const ended = await shell('program run pipe=- "$@" >&-', CAPTIVE);
    expectRefusal(ended, 3, "pipe=- cannot be used: descriptor 1 is not open");
  });

  test("a descriptor that is open for reading only is refused or fails the run", async () => {
    const line = 'program run pipe=fd:3 "$@" 3< /dev/null';
    const { status, stderr } = await shell(line, [disk.path]);
    expect([1, 3, 4]).toContain(status);
    expect(stderr).toMatch(/nbd-streaming: error: .*fd:3.*\n$/);
  });

  test.each([
    { what: "a pipe", line: '{ program run pipe=- "$@" 2>&1; echo "status $?"; } | cat' },
    {
      what: "a file",
      line: 'program run pipe=- "$@" > "$FILE" 2>&1; echo "status $?"; cat "$FILE"',
    },
    {
      what: "a descriptor",
      line: 'program run pipe=fd:2 "$@" 2> "$FILE"; echo "status $?"; cat "$FILE"',
    },
  ])("$what that standard error goes to, too, is refused", async ({ line }) => {
    const { stdout } = await shell(line, CAPTIVE, { env: { FILE: folder.file("both") } });
    expect(stdout).toContain("status 3");
    expect(stdout).toMatch(/cannot be used: standard error goes there, too, .*; leave out 2>&1/);
    expect(existsSync(trace)).toBe(false);
  });

  test("but not /dev/null", async () => {
    const { status } = await shell('program run pipe=- "$@" > /dev/null 2>&1', [disk.path]);
    expect(status).toBe(0);
  });

  test.skipIf(NO_SCRIPT)("a terminal as standard output is refused", async () => {
    expectRefusal(await onTerminal(["run", "pipe=-", ...CAPTIVE]), 3, "it is a terminal");
  });

  test.skipIf(NO_SCRIPT)("a terminal by its path is refused", async () => {
    expectRefusal(await onTerminal(["run", "pipe=/dev/tty", ...CAPTIVE]), 3, "it is a terminal");
  });
});

describe("a sink where nobody is", () => {
  test("a Unix socket without a listener is refused", async () => {
    const [path, stale] = [folder.file("live.sock"), folder.file("stale.sock")];
    await using server = await listening({ path });
    renameSync(path, stale);
    await server[Symbol.asyncDispose]();
    expectRefusal(await run(stale), 3, "nobody can be reached there", "first");
  });

  test("a TCP port without a listener is refused", async () => {
    // As long as the port is taken on one address, nobody gets it by chance on the other.
    await using server = await listening({ host: "127.0.0.1", port: 0 });
    const ended = await run(`tcp:127.0.0.2:${server.port}`);
    expectRefusal(ended, 3, `pipe=tcp:127.0.0.2:${server.port}`, "nobody answers there", "first");
  });

  test("a host that does not exist is refused", async () => {
    // A name with a part of 64 letters cannot be asked for, so no name server is.
    const host = "h".repeat(64);
    expectRefusal(await run(`tcp:${host}:10809`), 3, `the host ${host} is not known`);
  });
});

/** Runs `run` with a command that must not be started. */
async function run(pipe: string, options: readonly string[] = []): Promise<Ended> {
  return await runProgram(["run", `pipe=${pipe}`, ...options, ...CAPTIVE]);
}

function expectRefusal(ended: Ended, status: number, ...says: readonly string[]): void {
  expectRefused(ended, status, trace, ...says);
}

/** A listener that nobody connects to. */
async function listening(
  where: { readonly path: string } | { readonly host: string; readonly port: number },
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer();
  await bounded(new Promise<void>((resolve) => server.listen(where, resolve)), "a listener");
  const address = server.address() as AddressInfo | string;
  return {
    port: typeof address === "string" ? 0 : address.port,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        if (server.listening) server.close(() => resolve());
        else resolve();
      }),
  };
}
