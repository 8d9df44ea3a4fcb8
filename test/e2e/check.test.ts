/** `check` of this machine, and of what may be at the endpoint of a stream. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { glibcVersion } from "../../ffi/libc.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { unixAddress } from "../../ffi/socket.ts";
import { check, said } from "../support/check.ts";
import { digestOf, filled, qemuIo } from "../support/client-commands.ts";
import { bounded, eventually, PROGRAM, runProgram, start } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { GATE } from "../support/base-trial.ts";
import { shell } from "../support/shell.ts";
import { NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { unheard } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";
import type { Report } from "../../src/check/report.ts";
import { pipeUsers } from "../../src/process/pipe-users.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

describe("check alone", () => {
  test("finds that this machine can run the program, tries it, and leaves nothing behind", async () => {
    using folder = tempFolder();
    const { status, stderr, report } = await check([], { env: { TMPDIR: folder.path } });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(report.ok).toBeTrue();
    expect(report.client).toBeNull();
    for (const way of ["pipe=", "read="]) {
      expect(said(report, way)).toEqual([expect.stringMatching(/^ok: \d+ bytes .* unchanged$/)]);
    }
    expect(said(report, "splice")[0]).toStartWith("ok: ");
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("tells how much room there is for a spool, in the folder that is for that, or in another", async () => {
    const usual = await check([]);
    expect(said(usual.report, "spool=")).toEqual([
      expect.stringMatching(/^ok: \d+ bytes are free in \/var\/tmp$/),
    ]);
    using folder = tempFolder();
    const other = await check([`spool=${folder.path}`]);
    expect(other.status).toBe(0);
    expect(said(other.report, "spool=")[0]).toEndWith(` are free in ${folder.path}`);
    expect(readdirSync(folder.path)).toEqual([]);
    const none = await check([`spool=${folder.path}/none`]);
    expect({ status: none.status, ok: none.report.ok }).toEqual({ status: 3, ok: false });
    expect(said(none.report, "spool=")[0]).toMatch(/^failed: .*; make the folder first$/);
  });

  test("is a table that ends well", async () => {
    const { status, stdout } = await runProgram(["check"]);
    expect(status).toBe(0);
    expect(stdout).toStartWith("machine\n  ok ");
    expect(stdout).toMatch(/^self-test$/m);
    expect(stdout).toEndWith("\nall is well\n");
  });

  test("finds that there is no place for its socket", async () => {
    const env = { TMPDIR: "/nonexistent" };
    const { status, report } = await check([], { env });
    expect(status).toBe(3);
    expect(report.ok).toBeFalse();
    const hint = expect.stringMatching(/^failed: .*set TMPDIR to one that is writable$/);
    expect(said(report, "temporary folder")).toEqual([hint]);
    expect(said(report, "pipe=")).toEqual([hint]);
    expect(said(report, "read=")).toEqual([hint]);
  });

  // As root it is possible: unshare(1) makes a PID namespace, and leaves /proc as it is.
  test.skipIf(process.getuid?.() !== 0)(
    "finds that /proc is not that of its processes",
    async () => {
      const words = ["unshare", "--fork", "--pid", ...PROGRAM, "check", "--json"];
      await using running = start(words);
      const { status, stdout } = await running.ended();
      const report = JSON.parse(stdout) as Report;
      expect({ status, ok: report.ok }).toEqual({ status: 3, ok: false });
      expect(said(report, "/proc")).toEqual([
        expect.stringMatching(/^failed: it is that of another PID namespace, .*mount -t proc/),
      ]);
    },
  );

  test.skipIf(!STRACE_WORKS).each([
    { call: "splice", name: "splice" },
    { call: "tee", name: "pipe=" },
    { call: "writev", name: "pipe=" },
  ])(`names $call(2) where a sandbox forbids it ${NEEDS_STRACE}`, async ({ call, name }) => {
    const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:error=EPERM`];
    const words = ["strace", "-f", "-qq", "-o", "/dev/null", ...inject, ...PROGRAM];
    await using running = start([...words, "check", "--json"]);
    const { status, stdout } = await running.ended();
    expect(status).toBe(3);
    expect(said(JSON.parse(stdout) as Report, name)).toEqual([
      expect.stringMatching(new RegExp(`^failed: .*${call}: Operation not permitted`)),
    ]);
  });

  test("tells of which kind the C library is", async () => {
    const { report } = await check([]);
    const kind = glibcVersion() === undefined ? /^ok: musl/ : /^ok: glibc [0-9.]+$/;
    expect(said(report, "C library")).toEqual([expect.stringMatching(kind)]);
  });

  test("does not mind a reader that has seen enough", async () => {
    const { status } = await shell("program check | head -n 1; exit 0");
    expect(status).toBe(0);
  });
});

describe("a named pipe", () => {
  test("with a reader that waits for a writer is found so, and is not disturbed", async () => {
    using folder = tempFolder();
    const path = folder.file("x.fifo");
    mkfifo(path, 0o600);
    await using digest = digestFifo(path);
    const waits = () => pipeUsers(path).waiting.some(({ pid }) => pid === digest.pid);
    await eventually(waits, "the reader");
    for (let i = 0; i < 3; i++) {
      const { status, report } = await check([`pipe=${path}`]);
      expect(status).toBe(0);
      expect(said(report, "other end")[0]).toMatch(
        new RegExp(`^note: no reader is seen: .*sh \\(${digest.pid}\\).* for a named pipe`),
      );
    }
    expect(waits()).toBeTrue();
    const words = ["run", `pipe=${path}`, ...qemuIo("write -P 7 0 1M")];
    expect((await runProgram(words)).status).toBe(0);
    expect(await digest.sha256()).toBe(digestOf(filled(7, MiB)));
  });

  test("that somebody else writes into is warned of", async () => {
    using folder = tempFolder();
    const path = folder.file("x.fifo");
    mkfifo(path, 0o600);
    await using _both = start(["sh", "-c", 'exec sleep 60 <> "$0"', path]);
    const isOpen = () => pipeUsers(path).users.length > 0;
    await eventually(isOpen, "the other process");
    const { status, report } = await check([`pipe=${path}`]);
    expect(status).toBe(0);
    expect(said(report, "this end")[0]).toMatch(/^warning: .*could write into it, too/);
  });

  test("with several readers is told of, as each may get a part of the stream", async () => {
    using folder = tempFolder();
    const path = folder.file("x.fifo");
    mkfifo(path, 0o600);
    // The one that also writes lets the other one in.
    await using _both = start(["sh", "-c", 'exec sleep 60 <> "$0"', path]);
    await using _reader = start(["sh", "-c", 'exec sleep 60 < "$0"', path]);
    await eventually(() => pipeUsers(path).users.length > 1, "the other processes");
    const { report } = await check([`pipe=${path}`]);
    expect(said(report, "other end")[0]).toMatch(
      /^note: a reader is there: .*, .*; if several of these use it, each has a part/,
    );
  });

  test("without anybody is waited for, in either direction", async () => {
    using folder = tempFolder();
    const path = folder.file("x.fifo");
    mkfifo(path, 0o600);
    const [pipe, read] = await Promise.all([check([`pipe=${path}`]), check([`read=${path}`])]);
    expect([pipe.status, read.status]).toEqual([0, 0]);
    expect(said(pipe.report, "other end")[0]).toStartWith(
      "note: no reader is seen: it is waited for",
    );
    expect(said(read.report, "other end")[0]).toStartWith(
      "note: no writer is seen: it is waited for",
    );
  });

  test("that is yet to be made is not made", async () => {
    using folder = tempFolder();
    const { status, report } = await check([`pipe=${folder.file("x.fifo")}`]);
    expect(status).toBe(0);
    expect(said(report, "kind")[0]).toMatch(/^ok: nothing yet: a named pipe is made/);
    expect(readdirSync(folder.path)).toEqual([]);
    const nowhere = await check([`pipe=${folder.file("no/x.fifo")}`]);
    expect(nowhere.status).toBe(3);
    expect(said(nowhere.report, "can be made")[0]).toStartWith("failed: ENOENT");
  });
});

describe("a path that is", () => {
  /** State and text about what it is, and the exit status. */
  async function kind(word: string): Promise<string> {
    const { status, report } = await check([word]);
    return `${status} ${said(report, "kind")[0]}`;
  }

  test("a regular file can be read, and not be piped to", async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("f"), "12345");
    expect(await kind(`read=${folder.file("f")}`)).toMatch(/^0 ok: a regular file of 5 bytes/);
    expect(await kind(`pipe=${folder.file("f")}`)).toMatch(/^3 failed: a regular file, not a pipe/);
  });

  test("a file to be read is compared with size=", async () => {
    using folder = tempFolder();
    const file = folder.file("f");
    writeFileSync(file, Buffer.alloc(1024));
    /** The exit status, and what is said of the length. */
    const room = async (size: number) => {
      const { status, report } = await check([`read=${file}`, `size=${size}`]);
      return [status, ...said(report, "room")];
    };
    expect(await room(1024)).toEqual([0]);
    expect(await room(1000)).toEqual([0, "warning: 1024 bytes, and the stream has 1000"]);
    expect(await room(2048)).toEqual([
      3,
      "failed: 1024 bytes, and the stream has 2048: name a larger one, or another size=",
    ]);
  });

  test("a folder, a device or a terminal is told", async () => {
    expect(await kind("pipe=/")).toBe("3 failed: a folder: name a FIFO inside it");
    expect(await kind("pipe=/dev/null")).toBe("0 ok: a character device");
    expect(await kind("pipe=/dev/tty")).toMatch(/^3 failed: a terminal/);
  });

  test("a Unix socket is not connected to", async () => {
    using folder = tempFolder();
    const path = folder.file("s");
    let connections = 0;
    const socket = { data() {}, open: () => void connections++ };
    const listener = Bun.listen({ unix: path, socket });
    const { status, report } = await check([`pipe=${path}`]);
    expect(status).toBe(0);
    expect(said(report, "other end")).toEqual(["ok: somebody listens on it"]);
    expect(connections).toBe(0);
    listener.stop(true);
    using _bound = unheard(unixAddress(folder.file("b")));
    const alone = await check([`pipe=${folder.file("b")}`]);
    expect(alone.status).toBe(3);
    expect(said(alone.report, "other end")[0]).toStartWith("failed: nobody listens on it");
  });

  test.skipIf(process.getuid?.() === 0)("forbidden is told", async () => {
    using folder = tempFolder();
    mkfifo(folder.file("f"), 0o600);
    chmodSync(folder.file("f"), 0);
    const { status, report } = await check([`pipe=${folder.file("f")}`]);
    expect(status).toBe(3);
    expect(said(report, "can be opened")[0]).toStartWith("failed: EACCES");
  });
});

test("a TCP port is not connected to", async () => {
  let connections = 0;
  const socket = { data() {}, open: () => void connections++ };
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const word = `pipe=tcp:127.0.0.1:${listener.port}`;
  const there = await check([word]);
  expect(there.status).toBe(0);
  expect(said(there.report, "other end")).toEqual(["ok: somebody listens there"]);
  expect(connections).toBe(0);
  // As long as the port is taken on one address, nobody gets it by chance on the other.
  const gone = await check([`pipe=tcp:127.0.0.2:${listener.port}`]);
  listener.stop(true);
  expect(gone.status).toBe(3);
  expect(said(gone.report, "other end")[0]).toStartWith("failed: nobody listens there");
  const far = await check(["pipe=tcp:192.0.2.1:9"]);
  expect(far.status).toBe(0);
  expect(said(far.report, "other end")[0]).toStartWith("note: not tried");
});

test("a command is not started", async () => {
  using folder = tempFolder();
  const options = { cwd: folder.path };
  const { status } = await check(["pipe=exec:touch started"], options);
  expect(status).toBe(0);
  expect(readdirSync(folder.path)).toEqual([]);
  const { report } = await check(["read=exec:no-such-command | cat"], options);
  expect(said(report, "program")[0]).toStartWith("warning: no-such-command is not in PATH");
});

describe("a descriptor", () => {
  test("that is a pipe with a reader is told, and the report stays out of it", async () => {
    const { status, stdout, stderr } = await shell("{ program check pipe=-; echo $? >&2; } | cat");
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
    expect(stderr).toMatch(/ok +kind +standard output: a pipe\n/);
    expect(stderr).toMatch(/ok +other end +a reader is there\n/);
    expect(stderr).toEndWith("all is well\n0\n");
  });

  test("that is a pipe whose writer has gone is told", async () => {
    const { status, stdout } = await shell("true | { cat; program check read=-; }");
    expect(status).toBe(3);
    expect(stdout).toMatch(/failed +other end +its writer has gone/);
  });

  test("that is not open, or open the wrong way, is told", async () => {
    using folder = tempFolder();
    mkdirSync(folder.file("d"));
    writeFileSync(folder.file("f"), "123");
    const env = { FILE: folder.file("f") };
    const all = await Promise.all([
      shell("program check pipe=fd:7", [], { env }),
      shell('program check pipe=fd:7 7< "$FILE"', [], { env }),
      shell('program check read=fd:7 7< "$FILE"', [], { env }),
    ]);
    expect(all.map(({ status }) => status)).toEqual([3, 3, 0]);
    expect(all[0]?.stdout).toContain("descriptor 7 is not open");
    expect(all[1]?.stdout).toContain("open for reading only");
    expect(all[2]?.stdout).toContain("fd:7: a file, with 3 bytes left");
  });
});

test("a socket that was checked ends like any other when it is closed", async () => {
  const ended = Promise.withResolvers<string>();
  const socket = {
    data() {},
    end: () => ended.resolve("end"),
    close: () => ended.resolve("reset"),
  };
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const line = `exec 7<> /dev/tcp/127.0.0.1/${listener.port}; "$@"`;
  const words = [...PROGRAM, "check", "pipe=fd:7"];
  await using running = start(["bash", "-c", line, "bash", ...words]);
  expect((await running.ended()).stdout).toContain("fd:7: a socket");
  expect(await bounded(ended.promise, "the end of the connection")).toBe("end");
  listener.stop(true);
});

test("a folder for a spool is tried, and has to have room for the stream", async () => {
  using folder = tempFolder();
  const of = async (...words: string[]) => {
    const { status, report } = await check(["pipe=/dev/null", ...words]);
    return [status, ...said(report, "spool=")];
  };
  const room = `\\d+ bytes are free in ${folder.path}`;
  const spool = `spool=${folder.path}`;
  expect(await of(spool)).toEqual([0, expect.stringMatching(new RegExp(`^ok: ${room}$`))]);
  expect(await of(spool, "size=4k")).toEqual([
    0,
    expect.stringMatching(new RegExp(`^ok: ${room}$`)),
  ]);
  const fewer = expect.stringMatching(new RegExp(`^warning: ${room}, fewer than the stream has$`));
  expect(await of(spool, "size=4E")).toEqual([0, fewer]);
  const lost =
    "failed: /nonexistent: open /nonexistent: No such file or directory; make the folder first";
  expect(await of("spool=/nonexistent")).toEqual([3, lost]);
  expect(readdirSync(folder.path)).toEqual([]);
});

test("the window of a spool is explained, as large as it is where none is named", async () => {
  const { report } = await check(["pipe=/dev/null", "spool=/tmp"]);
  expect(said(report, "window=")[0]).toStartWith(`ok: up to ${64 * MiB} bytes of memory`);
});

test("size= and window= are explained", async () => {
  const { status, report } = await check(["pipe=/dev/null", "size=1000", "window=100k"]);
  expect(status).toBe(0);
  expect(said(report, "size=")).toEqual([
    "ok: exactly 1000 bytes; clients see 1024, whole sectors of 512",
  ]);
  expect(said(report, "window=")[0]).toStartWith("ok: up to 65536 bytes of memory");
  const tiny = await check(["pipe=/dev/null", "size=1M", "window=1000"]);
  expect(said(tiny.report, "size=")).toEqual(["ok: exactly 1048576 bytes"]);
  expect(said(tiny.report, "window=")[0]).toStartWith("warning: 1000 bytes hold nothing");
});

test("a check beside a stream does not end it", async () => {
  using folder = tempFolder();
  const path = folder.file("x.fifo");
  await using digest = digestFifo(path);
  const client = 'qemu-io -f raw -c "write -P 9 0 1M" "$nbd"';
  const line = `touch begun; ${GATE}; ${client}`;
  const stream = runProgram(["run", `pipe=${path}`, "--", line], { cwd: folder.path });
  await eventually(() => readdirSync(folder.path).includes("begun"), "the command");
  const isOpen = () => pipeUsers(path).users.some(({ pid }) => pid === digest.pid);
  await eventually(isOpen, "the stream to open its pipe");
  const { report } = await check([`pipe=${path}`]);
  expect(said(report, "other end")[0]).toStartWith("ok: a reader is there");
  writeFileSync(folder.file("gate"), "");
  expect((await bounded(stream, "the stream")).status).toBe(0);
  expect(await digest.sha256()).toBe(digestOf(filled(9, MiB)));
});
