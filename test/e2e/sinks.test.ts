/** Every kind of sink, fed by real clients: what arrives there is the disk, byte by byte. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scattered } from "../support/client-commands.ts";
import { holedImage, type Image, pseudoRandom, rawImage, sparseImage } from "../support/images.ts";
import { digestListener } from "../support/listeners.ts";
import { command, type Ended, runProgram } from "../support/program.ts";
import { digestFile, SHA256 } from "../support/reader.ts";
import { quoted, shell } from "../support/shell.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const FULL = 24 * MiB + 512;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let full: Image;
let sparse: Image;
let holed: Image;
beforeAll(async () => {
  full = await rawImage(images.file("full.raw"), FULL);
  sparse = await sparseImage(images.file("sparse.qcow2"));
  holed = await holedImage(images.file("holed.raw"));
});

/** Room for what comes out of order: hardly any in memory. */
const spool = () => [`spool=${images.path}`, "window=256K"];

/**
 * Two real clients: one that writes data only, and one that leaves most of the disk to zeroes. And one that writes
 * in no order, so that nearly all goes through a file.
 */
const TRANSFERS = [
  {
    client: "nbdcopy of a full disk",
    image: () => full,
    words: () => ["--", "nbdcopy", full.path, "$uri"],
  },
  {
    client: "qemu-img of a sparse disk",
    image: () => sparse,
    words: () => ["-f", "qcow2", sparse.path],
  },
  {
    client: "a full disk in no order, with a spool",
    image: () => full,
    words: () => [...spool(), ...scattered(full.path)],
  },
  {
    client: "a disk with holes in no order, with a spool",
    image: () => holed,
    words: () => [...spool(), ...scattered(holed.path)],
  },
];

/** How a transfer went: how the program ended, and what has arrived. */
interface Arrived {
  readonly status: number;
  readonly sha256: string;
}

interface Sink {
  readonly sink: string;
  /** @param words what follows `run pipe=SINK`; @param folder an empty one */
  readonly transfer: (words: readonly string[], folder: string) => Promise<Arrived>;
}

const SINKS: readonly Sink[] = [
  {
    sink: "a FIFO",
    transfer: async (words) => ({ status: 0, sha256: await streamed(words) }),
  },
  {
    sink: "standard output, a pipe",
    transfer: piped(`program run pipe=- "$@"`),
  },
  {
    sink: "standard output, a new file",
    transfer: intoFile(`program run pipe=- "$@" > "$FILE"`),
  },
  {
    sink: "standard output, a file with other contents that the shell truncates",
    transfer: intoFile(
      `head -c 200M /dev/zero | tr '\\0' x > "$FILE"; program run pipe=- "$@" > "$FILE"`,
    ),
  },
  {
    sink: "a descriptor that is a pipe",
    transfer: piped(`program run pipe=fd:3 "$@" 3>&1 >&2`),
  },
  {
    sink: "a descriptor that is a file",
    transfer: intoFile(`program run pipe=fd:3 "$@" 3> "$FILE"`),
  },
  {
    sink: "a Unix socket",
    transfer: async (words, folder) => intoListener(words, { path: join(folder, "sink.sock") }),
  },
  {
    sink: "a Unix socket that is slow to read",
    transfer: async (words, folder) => intoListener(words, { path: join(folder, "sink.sock") }, 1),
  },
  {
    sink: "TCP over IPv4",
    transfer: (words) => intoListener(words, { host: "127.0.0.1", port: 0 }),
  },
  {
    sink: "TCP over IPv6",
    transfer: (words) => intoListener(words, { host: "::1", port: 0 }),
  },
  {
    sink: "a command that leaves a file",
    transfer: async (words, folder) => {
      const file = join(folder, "sha256");
      const { status } = await run(`exec:${SHA256} > ${quoted(file)}`, words);
      return { status, sha256: readFileSync(file, "utf8").slice(0, 64) };
    },
  },
  {
    sink: "a command that is a pipeline",
    transfer: async (words) => {
      const { status, stdout } = await run(`exec:gzip -1c | gunzip -c | ${SHA256}`, words);
      return { status, sha256: stdout.slice(0, 64) };
    },
  },
];

describe.each(TRANSFERS)("$client", ({ image, words }) => {
  test.each(SINKS)("arrives whole at $sink", async ({ transfer }) => {
    using folder = tempFolder();
    const { sha256 } = image();
    expect(await transfer(words(), folder.path)).toEqual({ status: 0, sha256 });
  });

  test("goes into /dev/null", async () => {
    const { status, stderr } = await run("/dev/null", words());
    expect(status).toBe(0);
    expect(stderr).toContain(`nbd-streaming: ${image().size} bytes`);
  });
});

describe("a file that standard output is redirected to", () => {
  test("has holes where the disk has zeroes", async () => {
    using folder = tempFolder();
    const file = folder.file("disk.raw");
    const { status } = await shell('program run pipe=- "$@" > "$FILE"', [sparse.path], {
      env: { FILE: file },
    });
    expect(status).toBe(0);
    const { size, blocks } = statSync(file);
    expect(size).toBe(sparse.size);
    // There are hardly more than 4 MiB of data in it.
    expect(blocks * 512).toBeLessThan(16 * MiB);
  });

  test("keeps what it has with >>, and the disk comes behind it", async () => {
    using folder = tempFolder();
    const [file, expected] = [folder.file("disk.raw"), folder.file("expected")];
    const before = pseudoRandom(100_001);
    writeFileSync(file, before);
    const ended = await shell('program run pipe=- "$@" >> "$FILE"', [sparse.path], {
      env: { FILE: file },
    });
    expect(ended.status).toBe(0);
    writeFileSync(expected, Buffer.concat([before, readFileSync(`${sparse.path}.raw`)]));
    await command(["cmp", file, expected]);
  });

  test("is overwritten in place with 1<>, zeroes included, and keeps what lies behind", async () => {
    using folder = tempFolder();
    const [file, expected] = [folder.file("disk.raw"), folder.file("expected")];
    const before = Buffer.alloc(sparse.size + 12_345, "x");
    writeFileSync(file, before);
    const ended = await shell('program run pipe=- "$@" 1<> "$FILE"', [sparse.path], {
      env: { FILE: file },
    });
    expect(ended.status).toBe(0);
    before.set(readFileSync(`${sparse.path}.raw`));
    writeFileSync(expected, before);
    await command(["cmp", file, expected]);
  });

  test("goes on where the disk ends for the commands that follow", async () => {
    using folder = tempFolder();
    const [file, expected] = [folder.file("disk.raw"), folder.file("expected")];
    const line = '{ printf head; program run pipe=- "$@" && printf tail; } > "$FILE"';
    expect((await shell(line, [sparse.path], { env: { FILE: file } })).status).toBe(0);
    const whole = [Buffer.from("head"), readFileSync(`${sparse.path}.raw`), Buffer.from("tail")];
    writeFileSync(expected, Buffer.concat(whole));
    await command(["cmp", file, expected]);
  });
});

test("what a captive command prints goes to standard error, not into the stream", async () => {
  const line = `echo "said by the command"; nbdcopy ${quoted(full.path)} "$uri"; echo twice`;
  const ended = await shell('{ program run pipe=- "$@"; echo "status $?" >&2; } | sha256sum', [
    "--",
    line,
  ]);
  expect(ended.stdout.slice(0, 64)).toBe(full.sha256);
  expect(ended.stderr).toMatch(/^said by the command\n[^]*^twice\n[^]*^status 0\n/m);
});

describe("a command as the sink", () => {
  const tell = 'exec:cat > /dev/null; echo "${NBD_STREAMING_SIZE-nothing}"';
  const copy = () => ["--", "nbdcopy", full.path, "$uri"];

  test.each([
    { title: "is told the size of size=", words: () => ["size=32M", ...copy()], told: 32 * MiB },
    { title: "is told the size of an IMAGE", words: () => [sparse.path], told: 192 * MiB },
    { title: "is told no size where none is known", words: copy, told: "nothing" },
  ])("$title", async ({ words, told }) => {
    expect(await run(tell, words())).toMatchObject({ status: 0, stdout: `${told}\n` });
  });

  /** A stream that is held. */
  const held = (...words: string[]) => [`spool=${images.path}`, "--hold", ...words, ...copy()];

  test.each([
    { title: "nobody has given a size", words: () => held(), told: FULL },
    { title: "is padded", words: () => held("size=32M"), told: 32 * MiB },
    { title: "is not padded", words: () => held("size=32M", "--no-pad"), told: FULL },
  ])("is told the exact length of a stream that is held, of which $title", async (is) => {
    const count = 'exec:wc -c | tr -d "\\n"; echo " of ${NBD_STREAMING_SIZE-nothing}"';
    const told = `${is.told} of ${is.told}\n`;
    expect(await run(count, is.words())).toMatchObject({ status: 0, stdout: told });
  });

  test("is not told the size of another stream", async () => {
    const env = { NBD_STREAMING_SIZE: "12345" };
    expect((await run(tell, copy(), env)).stdout).toBe("nothing\n");
  });

  test("that fails once it has read everything fails the run", async () => {
    expect(await run("exec:cat > /dev/null; exit 3", copy())).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/truncated: exec:.* failed with status 3\n$/),
    });
  });

  test("never gets to see the end of a truncated stream", async () => {
    using folder = tempFolder();
    const committed = folder.file("committed");
    const sink = `exec:cat > /dev/null; touch ${quoted(committed)}`;
    const line = `nbdcopy ${quoted(full.path)} "$uri"; exit 5`;
    expect(await run(sink, ["--", line])).toMatchObject({
      status: 5,
      stderr: expect.stringContaining("truncated"),
    });
    expect(existsSync(committed)).toBe(false);
  });
});

describe("flush and FUA, which mean stable storage,", () => {
  /** What a client is told; the stream is left empty. */
  const asking = (info: string) => ["--", `nbdinfo --json "$uri" > ${quoted(info)}`];
  const told = (info: string) => {
    const [shown] = JSON.parse(readFileSync(info, "utf8")).exports;
    return [shown.can_flush, shown.can_fua];
  };

  test.each([
    { sink: "standard output, a pipe", line: 'program run pipe=- "$@" | cat', offered: true },
    { sink: "a command", line: 'program run pipe=exec:cat "$@"', offered: true },
    { sink: "a file", line: 'program run pipe=- "$@" > "$FILE"', offered: false },
    { sink: "a device", line: 'program run pipe=/dev/null "$@"', offered: false },
    { sink: "none, for check", line: 'program check "$@"', offered: true },
  ])("are offered by $sink: $offered", async ({ line, offered }) => {
    using folder = tempFolder();
    const info = folder.file("info");
    await shell(line, asking(info), { env: { FILE: folder.file("disk.raw") } });
    expect(told(info)).toEqual([offered, offered]);
  });
});

test(
  "a device without room fails the run, and the client is told so",
  async () => {
    const { status, stderr } = await run("/dev/full", ["--", "nbdcopy", full.path, "$uri"]);
    expect([1, 4]).toContain(status);
    expect(stderr).toMatch(/nbdcopy: .*No space left on device/);
    expect(stderr).toMatch(/truncated: \/dev\/full failed with the stream at byte 0: .*\n$/);
  },
  // The program ends soon after its stream has failed, whether its client has heard of it or not.
  IN_TIME,
);

/** Runs `run` to its end. */
function run(
  sink: string,
  words: readonly string[],
  env: Record<string, string> = {},
): Promise<Ended> {
  return runProgram(["run", `pipe=${sink}`, ...words], { env });
}

/** A command line whose standard output, the stream, another command of the shell digests. */
function piped(line: string): Sink["transfer"] {
  return async (words) => {
    const whole = `{ ${line}; echo "status $?" >&2; } | ${SHA256}`;
    const { stdout, stderr } = await shell(whole, words);
    return { status: Number(/^status (\d+)$/m.exec(stderr)?.[1]), sha256: stdout.slice(0, 64) };
  };
}

/** A command line that writes the stream to `$FILE`. */
function intoFile(line: string): Sink["transfer"] {
  return async (words, folder) => {
    const file = join(folder, "disk.raw");
    const { status } = await shell(line, words, { env: { FILE: file } });
    return { status, sha256: await digestFile(file) };
  };
}

/** @param delay how slow the listener is, in milliseconds for a piece */
async function intoListener(
  words: readonly string[],
  where: { readonly path: string } | { readonly host: string; readonly port: number },
  delay = 0,
): Promise<Arrived> {
  using listener = await digestListener(where, delay);
  const host = "host" in where && where.host.includes(":") ? "[::1]" : "127.0.0.1";
  const sink = "path" in where ? where.path : `tcp:${host}:${listener.port}`;
  const { status, stderr } = await run(sink, words);
  if (status !== 0) throw new Error(`run exited with ${status}: ${stderr}`);
  return { status, sha256: await listener.sha256() };
}
