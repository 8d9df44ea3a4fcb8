/** Dry runs of real clients: what they find, and that the line which they end with works. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import type { ClientFindings, Report } from "../../src/check/report.ts";
import { ownMountsWork } from "../support/abilities.ts";
import { check, said, typed } from "../support/check.ts";
import { digestOf, filled, qemuIo } from "../support/client-commands.ts";
import { type Image, qcow2Image, sparseImage } from "../support/images.ts";
import { PROGRAM, runProgram, start, startProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { tempFolder } from "../support/temp.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
let sparse: Image;
beforeAll(async () => {
  disk = await qcow2Image(folder.file("disk.qcow2"), 32 * MiB);
  sparse = await sparseImage(folder.file("sparse.qcow2"));
});

interface Case {
  readonly title: string;
  /** What comes after `check pipe=PIPE`. */
  readonly args: () => string[];
  /** SHA-256 of what the line is to stream. */
  readonly sha256: () => string;
  readonly finds: Partial<ClientFindings>;
}

/** A folder that is not there. */
const NOWHERE = "spool=/nonexistent";

const convert = (path: string, ...words: string[]) => {
  return ["--", "qemu-img", "convert", ...words, "-f", "qcow2", path, "-O", "raw", "$nbd"];
};

describe("the line for a client works:", () => {
  const CASES: Case[] = [
    {
      title: "qemu-img convert -n, in order",
      args: () => convert(disk.path, "-n"),
      sha256: () => disk.sha256,
      finds: { size: null, window: 0, readsBack: false },
    },
    {
      title: "qemu-img convert without -n",
      args: () => convert(disk.path),
      sha256: () => disk.sha256,
      finds: { size: null, window: 0, readsBack: false },
    },
    {
      title: "qemu-img convert of an image with holes",
      args: () => convert(sparse.path, "-n"),
      sha256: () => sparse.sha256,
      finds: { size: null, window: 0 },
    },
    {
      title: "qemu-img convert -n -W, out of order by chance",
      args: () => convert(disk.path, "-n", "-W"),
      sha256: () => disk.sha256,
      finds: { size: null, window: expect.any(Number) as never },
    },
    {
      title: "qemu-img convert -n -W -m 16",
      args: () => convert(disk.path, "-n", "-W", "-m", "16"),
      sha256: () => disk.sha256,
      finds: { size: null, window: expect.any(Number) as never },
    },
    {
      title: "qemu-img convert --target-is-zero of an image with a hole at its end",
      args: () => convert(sparse.path, "-n", "--target-is-zero"),
      sha256: () => sparse.sha256,
      finds: { size: expect.any(Number) as never, window: 0 },
    },
    {
      title: "nbdcopy, with several writes at a time",
      args: () => ["--", "nbdcopy", `${disk.path}.raw`, "$uri"],
      sha256: () => disk.sha256,
      finds: { size: null, window: 64 * MiB },
    },
    {
      title: "nbdcopy with the size of the disk",
      args: () => [`size=${disk.size}`, "--", "nbdcopy", `${disk.path}.raw`, "$uri"],
      sha256: () => disk.sha256,
      finds: { size: expect.any(Number) as never, window: 64 * MiB },
    },
    {
      title: "a line for the shell that wants a disk of the right size",
      args: () => {
        const wants = `test "$(nbdinfo --size "$uri")" = ${disk.size}`;
        return ["--", `${wants} && nbdcopy ${disk.path}.raw "$uri"`];
      },
      sha256: () => disk.sha256,
      finds: { size: expect.any(Number) as never },
    },
    {
      title: "qemu-io, which goes back a little",
      args: () => qemuIo("write -P 1 2M 1M", "write -P 2 0 2M"),
      sha256: () => digestOf(filled(2, 2 * MiB), filled(1, MiB)),
      finds: { size: null, window: 64 * MiB },
    },
  ];

  test.each(CASES)("$title", async ({ args, sha256, finds }) => {
    using scratch = tempFolder();
    const fifo = scratch.file("the stream's fifo");
    const { status, report, stderr } = await check([`pipe=${fifo}`, ...args()]);
    expect(status, stderr).toBe(0);
    expect(report.ok).toBeTrue();
    const client = report.client as ClientFindings;
    expect(client).toMatchObject({ streams: true, why: null, ...finds });
    // Nothing was made, and nothing streamed.
    expect(readdirSync(scratch.path)).toEqual([]);
    await using digest = digestFifo(fifo);
    const ended = await typed(client.line as string);
    expect(ended.status, ended.stderr).toBe(0);
    expect(await digest.sha256()).toBe(sha256());
  });
});

test("the last line of the table is the line to use, with a pipe to be named by the user", async () => {
  const { status, stdout } = await runProgram(["check", ...convert(disk.path, "-n")]);
  expect(status).toBe(0);
  const last = `nbd-streaming run pipe=disk.fifo -- qemu-img convert -n -f qcow2 ${disk.path} -O raw '$nbd'`;
  expect(stdout.trimEnd().split("\n").at(-1)).toBe(last);
});

test("writes that go back are told by number and place", async () => {
  const { report } = await check(qemuIo("write 4M 64k", "write 1M 512k", "write 3M 64k"));
  expect(said(report, "order")).toEqual([
    `warning: 2 (${576 * 1024} bytes) went back, up to ${3 * MiB + 64 * 1024} bytes, one after the other`,
  ]);
  const head = 4 * MiB + 64 * 1024;
  expect(said(report, "goes back")).toEqual([
    `note: NBD_CMD_WRITE of ${512 * 1024} bytes at ${MiB} came when the data had reached byte ${head}`,
    `note: NBD_CMD_WRITE of ${64 * 1024} bytes at ${3 * MiB} came when the data had reached byte ${head}`,
  ]);
});

test("what is found to be needed of a window is enough, and less is not", async () => {
  const writes = ["write -P 1 6M 2M", "write -P 2 3M 3M", "write -P 3 0 1M", "write -P 4 1M 2M"];
  const { report } = await check(qemuIo(...writes));
  const found = report.client?.trials[0]?.survey.window;
  expect(found).toEqual({ size: 8 * MiB, needed: 5 * MiB, largest: 1024 * MiB });
  using scratch = tempFolder();
  const fifo = scratch.file("fifo");
  /** The status, and the digest of what came out. */
  const streamed = async (window: number): Promise<[number, string]> => {
    await using digest = digestFifo(fifo);
    const words = ["run", `pipe=${fifo}`, `window=${window}`, ...qemuIo(...writes)];
    const { status } = await runProgram(words);
    return [status, await digest.sha256()];
  };
  const parts = [filled(3, MiB), filled(4, 2 * MiB), filled(2, 3 * MiB), filled(1, 2 * MiB)];
  const { needed = 0 } = found ?? {};
  expect(await streamed(needed)).toEqual([0, digestOf(...parts)]);
  expect((await streamed(needed - 64 * 1024))[0]).not.toBe(0);
});

describe("there is no line for", () => {
  test.each([
    {
      client: "one that reads back what it has written, where no folder can have a spool",
      args: () => [NOWHERE, "--", "qemu-img", "convert", "-O", "qcow2", disk.path, "$nbd"],
      status: 4,
      why: /after NBD_CMD_READ of \d+ bytes at 0, which had gone by: /,
      readsBack: true,
    },
    {
      client: "one that writes a place twice, where no folder can have a spool",
      args: () => [NOWHERE, ...qemuIo("write 0 1M", "write 512k 64k")],
      status: 4,
      why: /goes back 1 times, the first time with NBD_CMD_WRITE of 65536 bytes at 524288, which needs --hold/,
      readsBack: false,
    },
    {
      client: "one that fails",
      args: () => ["--", "exit 7"],
      status: 7,
      why: /^the command has failed with status 7: see its message$/,
      readsBack: false,
    },
    {
      client: "one that does not connect",
      args: () => ["--", "true"],
      status: 4,
      why: /^the command has ended without connecting: pass it \$nbd/,
      readsBack: false,
    },
    {
      client: "one that only asks",
      args: () => ["--", "nbdinfo", "$uri"],
      status: 4,
      why: /^the command has written nothing/,
      readsBack: false,
    },
    {
      client: "one that wants another size",
      args: () => ["--", 'test "$(nbdinfo --size "$uri")" = 12345678'],
      status: 1,
      why: /failed with status 1/,
      readsBack: false,
    },
  ])("$client", async ({ args, status, why, readsBack }) => {
    const ended = await check(args());
    expect(ended.status, ended.stderr).toBe(status);
    expect(ended.report).toMatchObject({
      ok: false,
      client: { streams: false, line: null, readsBack },
    });
    expect(ended.report.client?.why).toMatch(why);
  });
});

test("what keeps a folder from having the spool that is needed is told, and no line given", async () => {
  const { status, report } = await check([NOWHERE, ...qemuIo("write 0 1M", "write 0 64k")]);
  expect(status).toBe(4);
  expect(report.client).toMatchObject({ impossible: false, spool: null, hold: false });
  expect(said(report, "spool=")).toEqual([
    "failed: /nonexistent: open /nonexistent: No such file or directory; make the folder first",
  ]);
});

test("a client that needs none is not kept from its line by a folder that cannot have a spool", async () => {
  const { status, report } = await check([NOWHERE, ...convert(disk.path, "-n")]);
  expect(status).toBe(0);
  expect(report.client).toMatchObject({ spool: null, room: 0 });
});

test("a client that has to be held is run again with a disk, of which nothing is left", async () => {
  using scratch = tempFolder();
  const words = ["qemu-img", "convert", "-O", "qcow2", disk.path, "$nbd"];
  const { status, report } = await check([`spool=${scratch.path}`, "size=64M", "--", ...words]);
  expect(status).toBe(0);
  const { trials, ...client } = report.client as ClientFindings;
  expect(trials.map(({ mode, format }) => ({ mode, format }))).toEqual([
    { mode: "window", format: null },
    { mode: "hold", format: "qcow2" },
  ]);
  expect(client).toMatchObject({
    ...{ streams: true, impossible: false, window: 0, readsBack: true },
    ...{ spool: scratch.path, hold: true, noPad: true, size: 64 * MiB },
  });
  // A disk full of data, with its tables.
  expect(client.room).toBeGreaterThan(disk.size);
  const sparing = expect.stringMatching(
    new RegExp(
      `^note: needed: the data takes ${client.room} bytes, and ${scratch.path} has \\d+ free$`,
    ),
  );
  expect(said(report, "spool=")).toEqual([sparing]);
  expect(said(report, "--hold")).toEqual(["note: needed: the client uses the stream as a disk"]);
  expect(readdirSync(scratch.path)).toEqual([]);
});

test("a client that reads far ahead is run again with a spool, which answers it", async () => {
  const ahead = ["write -P 1 1M 80M", "read -P 1 1M 1M", "write -P 2 0 1M"];
  const { status, report } = await check(qemuIo(...ahead));
  expect(status).toBe(0);
  expect(report.client?.trials.map(({ mode }) => mode)).toEqual(["window", "spool"]);
  // 128 MiB would do, and four times as many are safe.
  expect(report.client).toMatchObject({ window: 512 * MiB, spool: null });
});

test.skipIf(!ownMountsWork())(
  "a folder without room for the disk is told, once, and is not taken for the client's fault",
  async () => {
    using scratch = tempFolder();
    const steps = 'mkdir full && mount -t tmpfs -o size=1M none full && exec "$@"';
    const words = ["check", "--json", "spool=full", "--", "qemu-img", "convert", "-O", "qcow2"];
    const program = [...PROGRAM, ...words, disk.path, "$nbd"];
    await using running = start(["unshare", "-Urm", "sh", "-c", steps, "sh", ...program], {
      cwd: scratch.path,
    });
    const { stdout } = await running.ended();
    const { client } = JSON.parse(stdout) as Report;
    expect(client?.trials.map(({ mode, spoolFailed }) => [mode, spoolFailed])).toEqual([
      ["window", false],
      ["hold", true],
    ]);
    expect(client).toMatchObject({ streams: false, impossible: false });
    expect(client?.why).toMatch(
      /^spool=full has no room for more, .*: name a folder with more room$/,
    );
  },
);

test("an image that has to grow has no line, and that is why", async () => {
  const { status, report } = await check([
    ...["--", "qemu-img", "convert", "-f", "qcow2", disk.path, "-O", "vmdk", "$nbd"],
  ]);
  expect(status).toBe(4);
  expect(report.client).toMatchObject({ streams: false, impossible: true });
  const growing = report.client?.trials.filter(
    ({ mode, format }) => mode === "hold" && format === "vmdk",
  );
  expect(growing?.length).toBeGreaterThan(0);
  expect(said(report, "try")).toContainEqual(
    expect.stringMatching(
      /; such an image has to grow, .*: have it made in '\$spool', with --hold$/,
    ),
  );
});

describe("a command that writes into $spool", () => {
  const grow = ["qemu-img", "convert", "-O", "vmdk", "disk.qcow2", "$spool"];

  test("is not run, and gets its line", async () => {
    using scratch = tempFolder();
    const words = ["check", `spool=${scratch.path}`, "--", 'touch ran; cp disk.raw "$spool"'];
    const { status, stdout } = await runProgram(words, { cwd: scratch.path });
    expect(status).toBe(0);
    expect(stdout).toBe(
      "client\n" +
        "  note     try  not tried: only --hold with spool=DIR gives a command the file $spool\n\n" +
        `nbd-streaming run pipe=disk.fifo spool=${scratch.path} --hold -- 'touch ran; cp disk.raw "$spool"'\n`,
    );
    expect(readdirSync(scratch.path)).toEqual([]);
  });

  test("is neither found to stream nor not to", async () => {
    const { status, report } = await check(["--", ...grow]);
    expect(status).toBe(0);
    expect(report.ok).toBeTrue();
    expect(report.client).toMatchObject({
      ...{ streams: null, why: null, impossible: false, trials: [] },
      ...{ size: null, window: 0, spool: "/var/tmp", hold: true, noPad: false, room: 0 },
      line: "nbd-streaming run pipe=disk.fifo spool=/var/tmp --hold -- qemu-img convert -O vmdk disk.qcow2 '$spool'",
    });
  });

  test("has failed where the folder cannot have the file", async () => {
    const { status, report } = await check(["spool=/nonexistent", "--", ...grow]);
    expect(status).toBe(3);
    expect(said(report, "spool=")).toEqual([
      "failed: /nonexistent: open /nonexistent: No such file or directory; make the folder first",
    ]);
  });
});

test("a size= that is too small is told from a client that does not stream", async () => {
  const { status, report } = await check(["size=1M", "--", "nbdcopy", `${disk.path}.raw`, "$uri"]);
  expect(status).toBe(0);
  expect(report.client).toMatchObject({ streams: true, size: null });
  expect(report.client?.line).not.toContain("size=");
});

test("a word that is too long to be a path is none", async () => {
  const line = `exit 3 # ${"x".repeat(5000)}`;
  expect((await check(["--", "sh", "-c", line])).status).toBe(3);
});

test("what the command prints does not get into the report", async () => {
  const { status, stderr, report } = await check(["--", "echo hello; exit 3"]);
  expect(status).toBe(3);
  expect(report.ok).toBeFalse();
  expect(stderr).toContain("hello\n");
});

test("a command that does not exist is status 127, without a report", async () => {
  expect(await runProgram(["check", "--", "no-such-command", "$nbd"])).toEqual({
    status: 127,
    stdout: "",
    stderr:
      "nbd-streaming: error: cannot run no-such-command: there is no such command; install it or check its name\n",
  });
});

test("a signal ends the check and the command, and leaves nothing behind", async () => {
  using scratch = tempFolder();
  const env = { TMPDIR: scratch.path };
  await using program = startProgram(["check", "--", "echo ready >&2; exec sleep 60"], { env });
  await program.saying(/ready/);
  program.process.kill("SIGINT");
  const { status, stdout, stderr } = await program.ended();
  expect({ status, stdout }).toEqual({ status: 130, stdout: "" });
  expect(stderr).toEndWith("nbd-streaming: error: the check was ended by SIGINT\n");
  expect(readdirSync(scratch.path)).toEqual([]);
});

test("a process that the command leaves behind is told of, and ended", async () => {
  const line = `qemu-io -f raw -c 'write -q 0 64k' "$uri"; sleep 300 < /dev/null > /dev/null 2>&1 & exit 0`;
  const { status, stdout } = await runProgram(["check", "--json", "--", line]);
  expect(status).toBe(4);
  const told = /it has left \S+ \((\d+)\) running with the stream at byte/.exec(stdout);
  expect(told, stdout).not.toBeNull();
  expect(existsSync(`/proc/${told?.[1]}/exe`)).toBeFalse();
});

test(
  "a process that is about to connect when the command ends is waited for",
  async () => {
    const line = `(sleep 0.05; qemu-io -f raw -c 'write -q 0 64k' "$uri") & exit 0`;
    const { status, stdout } = await runProgram(["check", "--", line]);
    expect(stdout).toMatch(/\n\nnbd-streaming run .*\n$/);
    expect(status).toBe(0);
  },
  IN_TIME,
);
