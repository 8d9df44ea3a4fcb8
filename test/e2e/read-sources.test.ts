/** Every kind of source, read by real clients: what they get is what came out, byte by byte. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { mkfifo } from "../../ffi/pipe.ts";
import { digestOf } from "../support/client-commands.ts";
import { digestSectors, holedImage, type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { fileListener } from "../support/listeners.ts";
import {
  command,
  type Ended,
  PROGRAM,
  runProgram,
  start,
  startProgram,
} from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { quoted, shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { feedFifo } from "../support/writer.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const UNKNOWN = String(2n ** 63n - 2n ** 30n);

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let full: Image;
let holed: Image;
beforeAll(async () => {
  full = await rawImage(images.file("full.raw"), 9 * MiB + 13);
  holed = await holedImage(images.file("holed.raw"));
});

interface Source {
  readonly source: string;
  /** The source knows how long it is. */
  readonly known?: boolean;
  /**
   * @param words what follows `run read=SOURCE`
   * @param folder where it is run, and may leave files
   */
  readonly read: (image: Image, words: readonly string[], folder: string) => Promise<Ended>;
}

const SOURCES: readonly Source[] = [
  {
    source: "a FIFO",
    read: async ({ path }, words, cwd) => {
      const fifo = join(cwd, "source.fifo");
      mkfifo(fifo, 0o600);
      await using _writer = feedFifo(fifo, path);
      const ended = await runProgram(["run", `read=${fifo}`, ...words], { cwd });
      expect(statSync(fifo).isFIFO()).toBeTrue();
      return ended;
    },
  },
  {
    source: "a FIFO that was not there before, and is not afterwards",
    read: async ({ path }, words, cwd) => {
      const fifo = join(cwd, "source.fifo");
      await using _writer = feedFifo(fifo, path);
      const ended = await runProgram(["run", "read=source.fifo", ...words], { cwd });
      expect(existsSync(fifo)).toBeFalse();
      return ended;
    },
  },
  {
    source: "a Unix socket",
    read: async ({ path }, words, cwd) => {
      using _listener = await fileListener({ path: join(cwd, "source.sock") }, path);
      return await runProgram(["run", "read=./source.sock", ...words], { cwd });
    },
  },
  { source: "TCP over IPv4", read: fromTcp("127.0.0.1", "127.0.0.1") },
  { source: "TCP over IPv6", read: fromTcp("::1", "[::1]") },
  { source: "standard input, a pipe", read: line('cat "$FILE" | program run read=- "$@"') },
  {
    source: "standard input, a file",
    known: true,
    read: line('program run read=- "$@" < "$FILE"'),
  },
  {
    source: "standard input, a file of which the first part has been read",
    known: true,
    read: line(
      '{ head -c 5000 /dev/zero; cat "$FILE"; } > shifted; ' +
        '{ dd bs=5000 count=1 of=/dev/null status=none; program run read=- "$@"; } < shifted',
    ),
  },
  {
    source: "standard input, a socket",
    read: async ({ path }, words, cwd) => {
      using listener = await fileListener({ host: "127.0.0.1", port: 0 }, path);
      const script = `exec "$@" < /dev/tcp/127.0.0.1/${listener.port}`;
      await using running = start(
        ["bash", "-c", script, "bash", ...PROGRAM, "run", "read=-", ...words],
        { cwd },
      );
      return await running.ended();
    },
  },
  {
    source: "a descriptor that is a pipe",
    read: line('{ cat "$FILE" | program run read=fd:7 "$@" 7<&0 < /dev/null; }'),
  },
  {
    source: "a descriptor that is a file",
    known: true,
    read: line('program run read=fd:3 "$@" 3< "$FILE"'),
  },
  {
    source: "a command",
    read: ({ path }, words, cwd) => {
      return runProgram(["run", `read=exec:cat ${quoted(path)}`, ...words], { cwd });
    },
  },
  {
    source: "a command that is a pipeline",
    read: ({ path }, words, cwd) => {
      const pipeline = `gzip -1c < ${quoted(path)} | gunzip -c`;
      return runProgram(["run", `read=exec:${pipeline}`, ...words], { cwd });
    },
  },
  {
    source: "a regular file",
    known: true,
    read: ({ path }, words, cwd) => runProgram(["run", `read=${path}`, ...words], { cwd }),
  },
];

describe.each(SOURCES)("$source", ({ source, known = false, read }) => {
  test.each([
    { client: "nbdcopy", image: () => full },
    { client: "nbdcopy of a disk full of holes", image: () => holed },
  ])("is read by $client to its end", async ({ image }) => {
    using folder = tempFolder();
    const size = known ? [] : [`size=${image().size}`];
    const words = [...size, "--", 'nbdcopy "$uri" - > out'];
    const { status, stderr } = await read(image(), words, folder.path);
    expect(stderr).toMatch(/^nbd-streaming: [0-9]+ bytes [^\n]*: complete\n$/);
    expect(status).toBe(0);
    expect(await digestFile(folder.file("out"))).toBe(await digestSectors(image()));
  });

  test(`${known ? "tells" : "does not tell"} how long it is`, async () => {
    using folder = tempFolder();
    // Who asks for the size only leaves the rest of the source unread.
    const words = ["--", "nbdinfo", "--size", "$uri"];
    const { status, stdout, stderr } = await read(full, words, folder.path);
    expect({ source, status }).toEqual({ source, status: 0 });
    expect(stdout.trim()).toBe(known ? String((full.size + 511) & ~511) : UNKNOWN);
    const warnings = stderr.split("\n").filter((said) => said.includes(" warn: "));
    if (known) expect(warnings).toEqual([]);
    else expect(warnings).toEqual([expect.stringMatching(/ is not known: most .* need size=$/)]);
  });
});

describe("what has no end", () => {
  test("is read as far as size= says, with a warning", async () => {
    using folder = tempFolder();
    const words = ["run", "read=/dev/zero", "size=70M", "--", "nbdcopy", "$uri", "out"];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(stderr).toContain("warn: /dev/zero has at least 67108864 bytes more than size=73400320");
    expect(status).toBe(0);
    expect(await digestFile(folder.file("out"))).toBe(digestOf(Buffer.alloc(70 * MiB)));
  });

  test("is read without size= by a client that knows what it wants", async () => {
    const read = ["-c", "read -P 0 0 4k", "-c", "read -P 0 100M 1M"];
    const words = ["run", "read=/dev/zero", "--", "qemu-io", "-r", "-f", "raw", ...read, "$uri"];
    const { status, stdout, stderr } = await runProgram(words);
    expect(stderr).toContain("warn: the length of /dev/zero is not known");
    expect(stdout).toContain("read 1048576/1048576 bytes at offset 104857600");
    expect(status).toBe(0);
  });
});

test("a FIFO is waited for, and its writer's end may pass from one process to another", async () => {
  using folder = tempFolder();
  const [fifo, size] = [folder.file("source.fifo"), `size=${full.size}`];
  const words = ["run", `read=${fifo}`, size, "--", "nbdcopy", "$uri", "out"];
  await using program = startProgram(words, { cwd: folder.path });
  await program.saying(/waiting for a writer of .*source\.fifo: start one/);
  const line = '{ head -c 1000000; sleep 0.1; cat; } < "$FILE" > "$0"';
  await command(["sh", "-c", line, fifo], { env: { FILE: full.path } });
  expect(await program.ended()).toMatchObject({ status: 0 });
  expect(await digestFile(folder.file("out"))).toBe(await digestSectors(full));
});

describe("standard input as the source", () => {
  const client = `'wc -c > count; nbdcopy "$uri" out'`;
  test.each([
    { what: "a pipe", words: `cat "$FILE" | program run read=- size="$SIZE" -- ${client}` },
    { what: "a file", words: `program run read=- -- ${client} < "$FILE"` },
  ])("when it is $what is not the command's, whose own is empty", async ({ words }) => {
    using folder = tempFolder();
    const env = { FILE: full.path, SIZE: String(full.size) };
    expect(await shell(words, [], { cwd: folder.path, env })).toMatchObject({ status: 0 });
    expect(readFileSync(folder.file("count"), "utf8").trim()).toBe("0");
    expect(await digestFile(folder.file("out"))).toBe(await digestSectors(full));
  });

  test("only: with another source it is the command's", async () => {
    using folder = tempFolder();
    const client = `-- 'cat > heard; nbdcopy "$uri" out'`;
    const words = `echo hello | program run read="$FILE" ${client}`;
    const ended = await shell(words, [], { cwd: folder.path, env: { FILE: full.path } });
    expect(ended.status).toBe(0);
    expect(readFileSync(folder.file("heard"), "utf8")).toBe("hello\n");
  });
});

test("what the command prints goes to standard output, as it is", async () => {
  const line = "program run read=\"$FILE\" -- nbdcopy '$uri' - | sha256sum";
  const { stdout } = await shell(line, [], { env: { FILE: holed.path } });
  expect(stdout.slice(0, 64)).toBe(holed.sha256);
});

test("standard output is as blocking as it was, for the command and for all who share it", async () => {
  const flags = "cat /proc/self/fdinfo/1";
  const line = `{ program run read="$FILE" -- '${flags}; exec nbdcopy "$uri" null:'; ${flags}; } | grep flags`;
  const { stdout } = await shell(line, [], { env: { FILE: holed.path } });
  // O_NONBLOCK is 04000.
  expect(stdout).toMatch(/^flags:\s+0?1\nflags:\s+0?1\n$/);
});

test("a file that grows meanwhile is as long as it was, with a warning", async () => {
  using folder = tempFolder();
  const image = await rawImage(folder.file("growing.raw"), 2 * MiB);
  const socket = folder.file("nbd.sock");
  await using serving = startProgram(["serve", `read=${image.path}`, "-U", socket]);
  await serving.saying(/listening on /);
  appendFileSync(image.path, "more");
  await command(["nbdcopy", `nbd+unix:///?socket=${socket}`, folder.file("out")]);
  const { status, stderr } = await serving.ended();
  expect(stderr).toContain("has 4 bytes more than size=2097152");
  expect(status).toBe(0);
  expect(await digestFile(folder.file("out"))).toBe(image.sha256);
});

/** A line of the shell in which `$FILE` is the image. */
function line(words: string): Source["read"] {
  return ({ path }, rest, cwd) => shell(words, rest, { cwd, env: { FILE: path } });
}

/** @param bound the address of the listener; @param host the same as it is written in `read=` */
function fromTcp(bound: string, host: string): Source["read"] {
  return async ({ path }, words, cwd) => {
    using listener = await fileListener({ host: bound, port: 0 }, path);
    return await runProgram(["run", `read=tcp:${host}:${listener.port}`, ...words], { cwd });
  };
}
