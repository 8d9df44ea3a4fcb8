/** `--checksum ALG:FILE`, `--summary json:FILE` and `--pidfile`: what is done to the files that they name. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { ownMountsWork } from "../support/abilities.ts";
import { GATE } from "../support/base-trial.ts";
import { nbdcopy } from "../support/client-commands.ts";
import { type Image, qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import {
  type Ended,
  eventually,
  PROGRAM,
  runProgram,
  start,
  startProgram,
} from "../support/program.ts";
import { quoted, shell } from "../support/shell.ts";
import { delaying, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { DISC } from "../support/stream.ts";
import { tempFolder } from "../support/temp.ts";
import { encodeWrite } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
let raw: string;
beforeAll(async () => {
  disk = await qcow2Image(images.file("disk.qcow2"), MiB);
  raw = `${disk.path}.raw`;
});

const TO_NOBODY = "pipe=exec:cat >/dev/null";
const DIGEST = "0".repeat(64);
const OLD_SUM = `${DIGEST}  -\n`;
const OLD_SUMMARY = `${JSON.stringify({ complete: true, reason: null, bytes: 1, data: 1, zeroes: 0 })}\n`;

/** A folder for one run of the program. */
class Place implements Disposable {
  readonly #folder = tempFolder();
  readonly path = this.#folder.path;

  file(name: string): string {
    return this.#folder.file(name);
  }

  write(name: string, text: string): void {
    writeFileSync(this.file(name), text);
  }

  read(name: string): string {
    return readFileSync(this.file(name), "latin1");
  }

  /** The names of all that is there. */
  get names(): string[] {
    return readdirSync(this.path).toSorted();
  }

  run(...words: readonly string[]): Promise<Ended> {
    return runProgram(["run", ...words], { cwd: this.path });
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

const REPORTS = ["--checksum", "sha256:sum", "--summary", "json:summary"];

/** The one line that says that nothing has begun. */
function expectRefusal({ status, stdout, stderr }: Ended, as: number, says: RegExp): void {
  expect({ status, stdout }, stderr).toEqual({ status: as, stdout: "" });
  expect(stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
  expect(stderr).toMatch(says);
}

describe("reports are made", () => {
  test.each([
    { where: "nothing is", prepare: () => {} },
    {
      where: "those of an earlier stream are",
      prepare: (place: Place) => {
        place.write("sum", `\\${"a".repeat(128)}  a\\nname\n`);
        place.write("summary", OLD_SUMMARY);
      },
    },
    {
      where: "there are empty files (mktemp)",
      prepare: (place: Place) => {
        place.write("sum", "");
        place.write("summary", "");
      },
    },
  ])("where $where, and nothing else is left there", async ({ prepare }) => {
    using place = new Place();
    prepare(place);
    const { status, stderr } = await place.run(TO_NOBODY, ...REPORTS, ...nbdcopy(raw));
    expect(status, stderr).toBe(0);
    expect(place.read("sum")).toBe(`${disk.sha256}  -\n`);
    expect(JSON.parse(place.read("summary"))).toMatchObject({ complete: true, bytes: MiB });
    expect(place.names).toEqual(["sum", "summary"]);
  });

  test("in the place of symbolic links, and what those lead to stays", async () => {
    using place = new Place();
    place.write("precious", "precious");
    symlinkSync("precious", place.file("sum"));
    symlinkSync("nothing", place.file("summary"));
    place.write("valuable", "valuable");
    symlinkSync("valuable", place.file("pid"));
    const ended = await place.run(TO_NOBODY, ...REPORTS, "-P", "pid", ...nbdcopy(raw));
    expect(ended.status, ended.stderr).toBe(0);
    expect(place.read("precious")).toBe("precious");
    expect(place.read("valuable")).toBe("valuable");
    expect(place.names).toEqual(["precious", "sum", "summary", "valuable"]);
    expect(lstatSync(place.file("sum")).isFile()).toBeTrue();
    expect(lstatSync(place.file("summary")).isFile()).toBeTrue();
  });

  test("whole: who waits for the pid file finds the number in it", async () => {
    using place = new Place();
    // Nothing that is there under that name is ever without it.
    const watch = "until [ -e pid ]; do :; done; cat pid; touch gate";
    await using watcher = start(["sh", "-c", watch], { cwd: place.path });
    await place.run(TO_NOBODY, "-P", "pid", "--", GATE);
    expect((await watcher.ended()).stdout).toMatch(/^[0-9]+\n$/);
  });
});

describe("the reports of an earlier stream", () => {
  function withOld(): Place {
    const place = new Place();
    place.write("sum", OLD_SUM);
    place.write("summary", OLD_SUMMARY);
    return place;
  }

  function expectOld(place: Place): void {
    expect({ sum: place.read("sum"), summary: place.read("summary") }).toEqual({
      sum: OLD_SUM,
      summary: OLD_SUMMARY,
    });
  }

  test("are gone when the command runs", async () => {
    using place = withOld();
    const { status, stderr } = await place.run(TO_NOBODY, ...REPORTS, "--", "ls >list; false");
    expect(status, stderr).toBe(1);
    expect(place.read("list")).toBe("list\n");
    expect(JSON.parse(place.read("summary"))).toMatchObject({ complete: false });
    expect(place.names).toEqual(["list", "summary"]);
  });

  test("are gone when serve listens", async () => {
    using place = withOld();
    const words = ["serve", TO_NOBODY, "-U", "s", ...REPORTS];
    await using program = startProgram(words, { cwd: place.path });
    await program.saying(/listening on/);
    expect(place.names).toEqual(["s"]);
    program.process.kill("SIGTERM");
    expect((await program.ended()).status).toBe(143);
    expect(place.names).toEqual(["summary"]);
  });

  test("are gone behind a link as well, by the loss of the link", async () => {
    using place = new Place();
    place.write("real", OLD_SUM);
    symlinkSync("real", place.file("sum"));
    await place.run(TO_NOBODY, "--checksum=sha256:sum", "--", "false");
    expect(place.names).toEqual(["real"]);
    expect(place.read("real")).toBe(OLD_SUM);
  });

  test.each([
    { what: "the command", words: [TO_NOBODY, "--", "no-such-command", "a"], as: 127 },
    { what: "a command that may be executed", words: [TO_NOBODY, "--", "./sum", "a"], as: 126 },
    { what: "the image", words: [TO_NOBODY, "no-such.qcow2"], as: 3 },
    { what: "the sink", words: ["pipe=missing/x", "--", "true"], as: 3 },
    { what: "the source", words: ["read=missing/x", "size=1M", "--", "true"], as: 3 },
    { what: "the address", words: [TO_NOBODY, "-U", "missing/s", "--", "true"], as: 3 },
    { what: "the pid file's folder", words: [TO_NOBODY, "-P", "missing/p", "--", "true"], as: 3 },
    { what: "the right usage", words: [TO_NOBODY, "size=lots", "--", "true"], as: 2 },
    { what: "the size", words: ["read=exec:cat", "disk.qcow2"], as: 2 },
  ])("stay when there is not $what", async ({ words, as }) => {
    using place = withOld();
    const [first = "", ...rest] = words;
    const { status, stderr } = await place.run(first, ...REPORTS, ...rest);
    expect(status, stderr).toBe(as);
    expectOld(place);
    expect(place.names).toEqual(["sum", "summary"]);
  });

  test("stay when the stream cannot begin without taking one for another file", async () => {
    using place = withOld();
    place.write("summary", "my notes\n");
    const ended = await place.run(TO_NOBODY, ...REPORTS, "--", "true");
    expectRefusal(ended, 3, /cannot write summary: it is there and is not a summary; /);
    expect(place.read("sum")).toBe(OLD_SUM);
    expect(place.read("summary")).toBe("my notes\n");
  });
});

/** What a slip could destroy, in a folder with links to it. */
function slippery(): Place {
  const place = new Place();
  writeFileSync(place.file("disk.qcow2"), readFileSync(disk.path));
  writeFileSync(place.file("disk.raw"), readFileSync(raw));
  linkSync(place.file("disk.qcow2"), place.file("hard"));
  symlinkSync("disk.qcow2", place.file("soft"));
  linkSync(place.file("disk.raw"), place.file("hard.raw"));
  mkfifo(place.file("fifo"), 0o600);
  place.write("notes", "my notes\n");
  place.write("sums", `${DIGEST}  a\n${DIGEST}  b\n`);
  place.write("object", '{"complete": "nearly"}\n');
  place.write("list", "[1]\n");
  mkdirSync(place.file("folder"));
  return place;
}

/** All that is in the folder, to be compared. */
function contents(place: Place): Record<string, string> {
  const entries = place.names.map((name) => {
    const stats = lstatSync(place.file(name));
    const text = stats.isFile() ? Bun.hash(readFileSync(place.file(name))) : stats.mode;
    return [name, `${stats.ino} ${text}`];
  });
  return Object.fromEntries(entries) as Record<string, string>;
}

const OPTIONS = {
  "--checksum": (file: string) => ["--checksum", `sha256:${file}`],
  "--summary": (file: string) => ["--summary", `json:${file}`],
  "-P": (file: string) => ["-P", file],
} as const;
const OPTION_NAMES = Object.keys(OPTIONS) as (keyof typeof OPTIONS)[];

describe.each(OPTION_NAMES)("%s is refused, and nothing is touched, when it names", (option) => {
  const named = OPTIONS[option];

  test.each([
    { what: "the IMAGE", file: "disk.qcow2", words: [TO_NOBODY, "disk.qcow2"] },
    {
      what: "the IMAGE by another path",
      file: "./folder/../disk.qcow2",
      words: [TO_NOBODY, "disk.qcow2"],
    },
    { what: "a hard link to the IMAGE", file: "hard", words: [TO_NOBODY, "disk.qcow2"] },
    { what: "a link to the IMAGE", file: "soft", words: [TO_NOBODY, "disk.qcow2"] },
    { what: "the IMAGE behind a link", file: "disk.qcow2", words: [TO_NOBODY, "soft"] },
    { what: "an IMAGE to be made", file: "new.qcow2", words: ["read=disk.raw", "new.qcow2"] },
    { what: "an IMAGE to be replaced", file: "hard", words: ["read=disk.raw", "disk.qcow2"] },
    { what: "the source", file: "disk.raw", words: ["read=disk.raw", "--", "true"] },
    { what: "a hard link to the source", file: "hard.raw", words: ["read=disk.raw", "--", "true"] },
    { what: "the sink", file: "fifo", words: ["pipe=fifo", "--", "true"] },
    { what: "a sink to be made", file: "new", words: ["pipe=new", "--", "true"] },
    { what: "the socket", file: "s", words: [TO_NOBODY, "-U", "s", "--", "true"] },
  ])("$what", async ({ file, words }) => {
    using place = slippery();
    const before = contents(place);
    const [first = "", ...rest] = words;
    expectRefusal(
      await place.run(first, ...named(file), ...rest),
      2,
      /are one file, .*: name another/,
    );
    expect(contents(place)).toEqual(before);
  });

  test.each([
    { what: "standard output, where the stream is", line: 'run pipe=- "$@" >out -- true' },
    { what: "standard input, where the stream is", line: 'run read=- "$@" <out -- true' },
  ])("$what", async ({ line }) => {
    using place = slippery();
    place.write("out", "");
    const before = contents(place);
    const ended = await shell(`program ${line}`, named("out"), { cwd: place.path });
    expectRefusal(ended, 2, /are one file, out: name another one/);
    expect(contents(place)).toEqual(before);
  });

  test.each(["notes", "sums", "object", "list", "folder", "disk.raw", "hard", "disk.qcow2"])(
    "a file of another kind: %s",
    async (file) => {
      using place = slippery();
      const before = contents(place);
      const copy = ["--", "qemu-img", "convert", "-n", "disk.qcow2", "-O", "raw", "$nbd"];
      const ended = await place.run(TO_NOBODY, ...named(file), ...copy);
      expectRefusal(ended, 3, /cannot write .*: it is /);
      expect(contents(place)).toEqual(before);
    },
  );
});

test.each([
  [...OPTIONS["--checksum"]("one"), ...OPTIONS["--summary"]("./one")],
  [...OPTIONS["--checksum"]("one"), ...OPTIONS["-P"]("one")],
  [...OPTIONS["-P"]("one"), ...OPTIONS["--summary"]("one")],
])("two of them for one file are refused: %s %s, %s %s", async (...words) => {
  using place = new Place();
  expectRefusal(await place.run(TO_NOBODY, ...words, "--", "true"), 2, /are one file, /);
  expect(place.names).toEqual([]);
});

test.each(OPTION_NAMES)("serve refuses %s for its socket and its sink, too", async (option) => {
  using place = slippery();
  for (const [file, words] of [
    ["s", [TO_NOBODY, "-U", "s"]],
    ["fifo", ["pipe=fifo", "-U", "s"]],
  ] as const) {
    const all = ["serve", ...words, ...OPTIONS[option](file)];
    expectRefusal(await runProgram(all, { cwd: place.path }), 2, /are one file, /);
  }
  expect(place.names).not.toContain("s");
});

describe("a report that cannot be written", () => {
  test.skipIf(!ownMountsWork())("for want of room is no success, and leaves nothing", async () => {
    using place = new Place();
    mkdirSync(place.file("full"));
    const steps = [
      "mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero > full/fill",
      '"$@"; s=$?; ls -A full; exit $s',
    ];
    const before = ["unshare", "-Urm", "sh", "-c", steps.join("; "), "sh"];
    const line = `${[...before, ...PROGRAM].map(quoted).join(" ")} "$@"`;
    const words = ["run", TO_NOBODY, "--checksum=sha256:full/sum", "--summary=json:full/s"];
    const ended = await shell(line, [...words, ...nbdcopy(raw)], { cwd: place.path });
    expect(ended.stdout).toBe("fill\n");
    expect(ended.status, ended.stderr).toBe(3);
    const lines = ended.stderr.trimEnd().split("\n");
    const complete = `; the stream itself is complete (sha256 ${disk.sha256})`;
    expect(lines).toEqual([
      expect.stringMatching(/^nbd-streaming: error: cannot write full\/sum: ENOSPC: /),
      expect.stringMatching(/^nbd-streaming: error: cannot write full\/s: ENOSPC: /),
      expect.stringMatching(/: complete$/),
    ]);
    expect(lines[0]).toEndWith(complete);
    expect(lines[1]).toEndWith(complete);
  });

  test.skipIf(Bun.which("strace") === null)(
    "to the disk is no success, and leaves nothing",
    async () => {
      using place = new Place();
      place.write("sum", OLD_SUM);
      const inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
      const traced = ["strace", "-f", "-qq", ...inject, "-o", "/dev/null", ...PROGRAM];
      const line = `exec ${traced.map(quoted).join(" ")} "$@"`;
      const ended = await shell(line, ["run", TO_NOBODY, ...REPORTS, ...nbdcopy(raw)], {
        cwd: place.path,
      });
      expect(ended.status, ended.stderr).toBe(3);
      expect(place.names).toEqual([]);
    },
  );

  test("of a stream that is truncated does not change its status", async () => {
    using place = new Place();
    mkdirSync(place.file("in"));
    const words = [TO_NOBODY, "--summary=json:in/s", "--", "rmdir in; exit 7"];
    const { status, stderr } = await place.run(...words);
    expect(status, stderr).toBe(7);
    expect(stderr).toMatch(/error: cannot write in\/s: ENOENT.*; check the folder\n/);
    expect(stderr).not.toContain("the stream itself is complete");
  });

  test.each([
    { what: "a file of another kind", command: "echo precious > sum", left: "precious\n" },
    { what: "a folder", command: "mkdir sum", left: undefined },
  ])("because $what has come meanwhile leaves that as it is", async ({ command, left }) => {
    using place = new Place();
    const client = `${command}; exec nbdcopy ${quoted(raw)} "$uri"`;
    const { status, stderr } = await place.run(TO_NOBODY, "--checksum=sha256:sum", "--", client);
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/cannot write sum: it is .*; the stream itself is complete/);
    if (left !== undefined) expect(place.read("sum")).toBe(left);
    expect(place.names).toEqual(["sum"]);
  });

  test("to a FIFO that nobody reads is given up in time", async () => {
    using place = new Place();
    mkfifo(place.file("fifo"), 0o600);
    const words = [TO_NOBODY, "--summary=json:fifo", ...nbdcopy(raw)];
    const { status, stderr } = await place.run(...words);
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/error: cannot write fifo: nobody reads it; start its reader first/);
    expect(stderr).toMatch(/: complete\n$/);
    expect(lstatSync(place.file("fifo")).isFIFO()).toBeTrue();
  });

  test.skipIf(!makesDevices())("to a device that is full is no success (needs mknod)", async () => {
    using place = new Place();
    makeDevice(place.file("full"), FULL);
    const { status, stderr } = await place.run(TO_NOBODY, "--summary=json:full", ...nbdcopy(raw));
    expect(status, stderr).toBe(3);
    expect(stderr).toContain("cannot write full: ");
    expect(lstatSync(place.file("full")).isCharacterDevice()).toBeTrue();
  });
});

describe("a report goes as it is to", () => {
  const SUMMARY = /^\{"complete":true,.*\}\n$/;

  test("a FIFO that somebody reads", async () => {
    using place = new Place();
    mkfifo(place.file("fifo"), 0o600);
    await using reader = start(["cat", "fifo"], { cwd: place.path });
    const words = [TO_NOBODY, "--summary=json:fifo", ...nbdcopy(raw)];
    expect(await place.run(...words)).toMatchObject({ status: 0 });
    expect((await reader.ended()).stdout).toMatch(SUMMARY);
  });

  // By links of the test's own: a mistake of ours would be the end of the machine's.
  test.each([
    { what: "standard output, a pipe", line: 'ln -s /dev/stdout l; "$@" -- $CLIENT | cat' },
    {
      what: "standard output, a file that is appended to",
      line: 'ln -s /dev/stdout l; echo before > out; "$@" -- $CLIENT >> out; sed 1d out',
    },
    {
      what: "a file that is open as descriptor 3",
      line: 'ln -s /dev/fd/3 l; "$@" -- $CLIENT 3> out >/dev/null; cat out',
    },
    {
      what: "a pipe that is open as descriptor 3",
      line: 'ln -s /proc/self/fd/3 l; "$@" -- $CLIENT 3>&1 >/dev/null',
    },
  ])("$what", async ({ line }) => {
    using place = new Place();
    const CLIENT = `nbdcopy ${raw} $uri`;
    const words = ["program", "run", TO_NOBODY, "--summary=json:l"];
    const ended = await shell(line, words, { cwd: place.path, env: { CLIENT } });
    expect(ended.stdout, ended.stderr).toMatch(SUMMARY);
    expect(ended.status).toBe(0);
    expect(lstatSync(place.file("l")).isSymbolicLink()).toBeTrue();
  });

  test.skipIf(Bun.which("bash") === null)("a process of the shell (needs bash)", async () => {
    using place = new Place();
    const program = PROGRAM.map(quoted).join(" ");
    const line = `${program} "$@" --checksum sha256:>(cat > out) -- nbdcopy ${quoted(raw)} '$uri'; s=$?; wait; exit $s`;
    await using running = start(["bash", "-c", line, "bash", "run", TO_NOBODY], {
      cwd: place.path,
    });
    const ended = await running.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(place.read("out")).toBe(`${disk.sha256}  -\n`);
  });

  // Not the machine's own: a mistake of ours would be the end of that.
  test.skipIf(!makesDevices())("a device, any number of them (needs mknod)", async () => {
    using place = new Place();
    makeDevice(place.file("null"), NULL);
    const words = [...OPTIONS["--checksum"]("null"), ...OPTIONS["--summary"]("null")];
    const ended = await place.run(TO_NOBODY, ...words, "-P", "null", ...nbdcopy(raw));
    expect(ended.status, ended.stderr).toBe(0);
    expect(lstatSync(place.file("null")).isCharacterDevice()).toBeTrue();
    expect(place.names).toEqual(["null"]);
  });
});

/** Minor numbers of null(4) and full(4). */
const NULL = 3;
const FULL = 7;

function makeDevice(path: string, minor: number): boolean {
  return Bun.spawnSync(["mknod", path, "c", "1", String(minor)]).success;
}

/** Also false where they can be made, but not opened (`nodev`). */
function makesDevices(): boolean {
  using folder = tempFolder();
  try {
    return makeDevice(folder.file("null"), 3) && readFileSync(folder.file("null")).length === 0;
  } catch {
    return false;
  }
}

test(`a pid file that another server replaces and removes at once keeps the first from nothing ${NEEDS_STRACE}`, async () => {
  if (!STRACE_WORKS) return;
  using place = new Place();
  const pid = place.file("pid");
  const words = [...PROGRAM, "serve", "pipe=/dev/null", "-U", place.file("sock"), "-P", pid];
  // It is late from the moment that the file has its name.
  await using serving = start([...delaying("/^rename", 500, "exit"), ...words], { group: true });
  await eventually(() => existsSync(pid), "the pid file");
  unlinkSync(pid);
  await serving.saying(/listening on /);
  using client = await RawClient.transmission(place.file("sock"));
  client.send(Buffer.concat([encodeWrite(0, Buffer.from("x")), DISC]));
  expect((await serving.ended()).status).toBe(0);
  expect(place.names).toEqual([]);
});
