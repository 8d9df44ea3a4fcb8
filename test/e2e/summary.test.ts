/** The last word on a stream: the line for people, and the object for programs. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import type { Summary } from "../../src/server/summary.ts";
import { nbdcopy, qemuIo } from "../support/client-commands.ts";
import { type Image, rawImage, sparseImage } from "../support/images.ts";
import { command, type Ended, runProgram, startProgram } from "../support/program.ts";
import { quoted } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let full: Image;
let sparse: Image;
beforeAll(async () => {
  full = await rawImage(folder.file("full.raw"), 8 * MiB);
  sparse = await sparseImage(folder.file("sparse.qcow2"));
});

/** A stream of 2 MiB of data, 3 MiB of zeroes and 1 MiB of data. */
const MIXED = qemuIo("write -P 1 0 2M", "write -P 2 5M 1M");
/** The same, and then a write behind it. */
const BROKEN = qemuIo("write -P 1 0 2M", "write -P 2 5M 1M", "write 1M 64k");
const BROKEN_REASON = "NBD_CMD_WRITE of 65536 bytes at 1048576 lies behind the stream";

describe("the last line on standard error", () => {
  const line =
    /^nbd-streaming: (error: )?(\d+) bytes \(data (\d+), zeroes (\d+)\) in (\d+\.\d\d) s, (\d+\.\d) MiB\/s: (.*)\n$/;

  test("tells the bytes, the data, the zeroes, the time and the rate of a complete stream", async () => {
    const { status, stderr } = await run(MIXED);
    expect(status).toBe(0);
    expect(stderr).toMatch(line);
    const [, error, bytes, data, zeroes, seconds, rate, end] = line.exec(stderr) ?? [];
    expect({ error, bytes, data, zeroes, end }).toEqual({
      error: undefined,
      bytes: String(6 * MiB),
      data: String(3 * MiB),
      zeroes: String(3 * MiB),
      end: "complete",
    });
    // The time is rounded to hundredths of a second.
    expect(Number(rate)).toBeGreaterThan(6 / (Number(seconds) + 0.0051) - 0.06);
    expect(Number(rate)).toBeLessThan(6 / Math.max(Number(seconds) - 0.0051, 1e-6) + 0.06);
  });

  test("tells of a disk full of holes how little of it is data", async () => {
    const { stderr } = await run(["-f", "qcow2", sparse.path]);
    const [, , bytes, data, zeroes] = line.exec(stderr) ?? [];
    expect(Number(bytes)).toBe(sparse.size);
    expect(Number(data) + Number(zeroes)).toBe(sparse.size);
    expect(Number(data)).toBeGreaterThanOrEqual(4 * MiB + 64 * 1024);
    expect(Number(data)).toBeLessThan(16 * MiB);
  });

  test("counts the zeroes that lengthen a stream to size=", async () => {
    const { stderr } = await run(["size=9M", ...nbdcopy(full.path)]);
    expect(stderr).toContain(`${9 * MiB} bytes (data ${8 * MiB}, zeroes ${MiB})`);
  });

  test("tells why a stream is truncated, and what of it went out", async () => {
    const { status, stderr } = await run(BROKEN);
    expect(status).not.toBe(0);
    const last = `${stderr.trimEnd().split("\n").at(-1)}\n`;
    const [, error, bytes, , , , , end] = line.exec(last) ?? [];
    expect({ error, bytes: Number(bytes) }).toEqual({ error: "error: ", bytes: 6 * MiB });
    expect(end).toStartWith(`truncated: ${BROKEN_REASON}`);
  });

  test("tells the size of the window and how much of it was needed", async () => {
    const { stderr } = await run(["window=4M", ...qemuIo("write 1M 1M", "write 0 1M")]);
    expect(stderr).toContain(`(data ${2 * MiB}, zeroes 0, needed ${MiB} of window=${4 * MiB})`);
  });

  test("tells how much of the spool was needed behind a small window", async () => {
    const words = ["window=64k", `spool=${folder.path}`, ...qemuIo("write 1M 2M", "write 0 1M")];
    const { stderr } = await run(words);
    const tells = /\(data 3145728, zeroes 0, needed 65536 of window=65536, spooled (\d+) at most\)/;
    expect(stderr).toMatch(tells);
    expect(Number(tells.exec(stderr)?.[1])).toBeGreaterThanOrEqual(2 * MiB - 64 * KiB);
  });

  test("tells that the spool was not needed when it was not", async () => {
    const { stderr } = await run([`spool=${folder.path}`, ...qemuIo("write 1M 1M", "write 0 1M")]);
    expect(stderr).toContain(`needed ${MiB} of window=${64 * MiB}, spooled 0 at most)`);
  });

  test("tells of a stream that was held what its disk took, and of no window", async () => {
    const io = qemuIo("write 1M 1M", "write 0 1M", "write 1M 1M");
    const { stderr } = await run([`spool=${folder.path}`, "--hold", ...io]);
    const tells = /\(data 2097152, zeroes 0, spooled (\d+) at most\)/;
    expect(stderr).toMatch(tells);
    expect(Number(tells.exec(stderr)?.[1])).toBeGreaterThanOrEqual(2 * MiB);
  });

  test("is the last line of serve, too", async () => {
    const socket = folder.file("serve.sock");
    await using serving = startProgram(["serve", "pipe=/dev/null", "-U", socket]);
    await serving.saying(/listening on /);
    await command(["nbdcopy", full.path, `nbd+unix:///?socket=${socket}`]);
    const { stderr } = await serving.ended();
    expect(`${stderr.split("\n").at(-2)}\n`).toMatch(line);
  });
});

describe("--summary=json", () => {
  test("writes one object, and nothing else, to standard error", async () => {
    const { status, stderr, stdout } = await run(["--summary=json", ...MIXED]);
    expect({ status, lines: stderr.split("\n").length }).toEqual({ status: 0, lines: 2 });
    expect(stdout).not.toContain("{");
    const summary = JSON.parse(stderr) as Summary;
    expect(summary).toEqual({
      complete: true,
      reason: null,
      bytes: 6 * MiB,
      data: 3 * MiB,
      zeroes: 3 * MiB,
      seconds: expect.any(Number),
      bytesPerSecond: expect.any(Number),
      checksum: null,
      window: null,
      spool: null,
      surplus: null,
      warnings: [],
    });
    expectRate(summary);
  });

  test("tells the truth about a truncated stream", async () => {
    const { stderr, status } = await run(["--summary=json", ...BROKEN]);
    expect(status).not.toBe(0);
    const objects = stderr.split("\n").filter((line) => line.startsWith("{"));
    expect(objects).toHaveLength(1);
    const summary = JSON.parse(objects[0] as string) as Summary;
    expect(summary).toMatchObject({ complete: false, bytes: 6 * MiB });
    expect(summary.reason).toStartWith(BROKEN_REASON);
    expectRate(summary);
  });

  test("has the window and the checksum where there are any", async () => {
    const words = ["window=2M", "--checksum=md5", ...qemuIo("write -P 7 1M 1M", "write -P 7 0 1M")];
    const { stderr } = await run(["--summary=json", ...words]);
    expect(JSON.parse(stderr)).toMatchObject({
      complete: true,
      window: { size: 2 * MiB, needed: MiB },
      checksum: {
        algorithm: "md5",
        digest: Bun.MD5.hash(Buffer.alloc(2 * MiB, 7), "hex"),
      },
    });
  });

  test("says that a window was not needed when it was not", async () => {
    const { stderr } = await run([
      "--summary=json",
      "window=2M",
      ...nbdcopy("--synchronous", full.path),
    ]);
    expect(JSON.parse(stderr)).toMatchObject({ window: { size: 2 * MiB, needed: 0 } });
  });

  test("says so of a client in order that leaves holes, behind which the window fills", async () => {
    const words = ["--summary=json", "window=2M", "-f", "qcow2", sparse.path];
    const { stderr } = await run(words);
    expect(JSON.parse(stderr)).toMatchObject({ window: { size: 2 * MiB, needed: 0 } });
  });

  test("has the most that the spool took, of a complete stream and of one that is truncated", async () => {
    const common = ["--summary=json", `spool=${folder.path}`, "window=64k"];
    const whole = await run([...common, ...qemuIo("write 1M 1M", "write 0 1M")]);
    const held = [...common, "--hold", "--", `qemu-io -f raw -c 'write 0 1M' "$nbd"; exit 3`];
    const broken = await run(held);
    expect([whole.status, broken.status]).toEqual([0, 3]);
    const summaries = [whole, broken].map(({ stderr }) => {
      return JSON.parse(stderr.split("\n").find((one) => one.startsWith("{")) ?? "") as Summary;
    });
    expect(summaries).toMatchObject([
      { complete: true, bytes: 2 * MiB, window: { size: 64 * KiB, needed: 64 * KiB } },
      { complete: false, bytes: 0, window: null },
    ]);
    for (const { spool } of summaries) {
      expect(spool?.most).toBeGreaterThanOrEqual(MiB - 64 * KiB);
    }
  });

  test("tells of each of several streams what its own spool took", async () => {
    const io = (name: string, size: string) =>
      `qemu-io -f raw -c 'write 1M ${size}' "$uri_${name}"`;
    const words = ["run", "pipe=exec:cat >/dev/null", "window=64k", "--summary=json"];
    const streams = [
      "-e",
      "a",
      `spool=${folder.path}`,
      "-e",
      "b",
      `spool=${folder.path}`,
      "-e",
      "c",
    ];
    const client = `${io("a", "1M")} && ${io("b", "3M")} && ${io("c", "64k")}`;
    const { status, stderr } = await runProgram([...words, ...streams, "--", client]);
    expect(status, stderr).toBe(0);
    const lines = stderr.split("\n").filter((line) => line.startsWith("{"));
    const most = new Map(
      lines.map((line) => {
        const { export: name, spool } = JSON.parse(line) as Summary & { export: string };
        return [name, spool?.most ?? null] as const;
      }),
    );
    expect(most.get("a")).toBeGreaterThanOrEqual(MiB - 64 * KiB);
    expect(most.get("a")).toBeLessThan(2 * MiB);
    expect(most.get("b")).toBeGreaterThanOrEqual(3 * MiB - 64 * KiB);
    expect(most.get("c")).toBeNull();
  });

  test("tells of a command that never connects that nothing went out", async () => {
    const { status, stderr } = await run(["--summary=json", "--", "true"]);
    expect(status).toBe(4);
    expect(JSON.parse(stderr)).toMatchObject({
      complete: false,
      reason: expect.stringContaining("without connecting"),
      bytes: 0,
      seconds: 0,
      bytesPerSecond: 0,
    });
  });
});

describe("--summary=json:FILE", () => {
  test.each([
    { how: "a complete stream", words: MIXED, complete: true },
    { how: "a truncated stream", words: BROKEN, complete: false },
  ])("writes the object of $how to the file, and the line to standard error", async (stream) => {
    const file = folder.file(`summary-${stream.complete}.json`);
    const { stderr } = await run([`--summary=json:${file}`, ...stream.words]);
    expect(stderr).not.toContain("{");
    expect(stderr).toMatch(stream.complete ? /: complete\n$/ : /: truncated: .*\n$/);
    const text = readFileSync(file, "utf8");
    expect(text).toMatch(/^\{[^\n]*\}\n$/);
    const summary = JSON.parse(text) as Summary;
    expect(summary).toMatchObject({ complete: stream.complete, bytes: 6 * MiB });
    expectRate(summary);
  });

  test("takes a file name with colons", async () => {
    const file = folder.file("a:b:c.json");
    await run([`--summary=json:${file}`, ...MIXED]);
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ complete: true });
  });

  test.each([
    { option: "--summary=json:", where: "in a folder that is missing", name: "missing/summary" },
    { option: "--checksum=sha256:", where: "in a folder that is missing", name: "missing/sum" },
    { option: "--checksum=sha256:", where: "that is a folder", name: "." },
  ])("or $option is refused for a file $where, before the stream", async ({ option, name }) => {
    const file = folder.file(name);
    const trace = folder.file("started");
    const words = ["run", `${option}${file}`, "pipe=exec:cat", "--", "touch", trace];
    const { status, stderr } = await runProgram(words);
    expect(stderr).toStartWith(`nbd-streaming: error: cannot write ${file}: `);
    expect(stderr.trimEnd()).not.toContain("\n");
    expect(status).toBe(3);
    expect(existsSync(trace)).toBe(false);
  });

  test("that cannot be written any more is no success, though the stream is complete", async () => {
    const place = folder.file("place");
    mkdirSync(place);
    const words = ["run", `--summary=json:${place}/sum`, "pipe=exec:cat", "--"];
    const client = `rm -r ${quoted(place)}; exec nbdcopy - "$uri" < /dev/null`;
    const { status, stderr } = await runProgram([...words, client]);
    expect(stderr).toContain(`nbd-streaming: error: cannot write ${place}/sum: `);
    expect(stderr).toContain("; the stream itself is complete");
    expect(stderr).toMatch(/: complete\n$/);
    expect(status).toBe(3);
  });
});

test.each([
  "--summary=xml",
  "--summary=json:",
  "--summary=",
  "--summary",
  "--checksum=crc32",
  "--checksum=",
  "--checksum=sha256:",
  "--checksum",
  "--reader-timeout=0",
  "--reader-timeout=-1",
  "--reader-timeout=soon",
  "--reader-timeout=9999999999",
  "--reader-timeout=",
  "--reconnect=0",
  "--reconnect=1e3",
  "--reconnect=5s",
  "--reconnect=",
  "window=",
  "window=-1",
  "window=1.5M",
  "window=lots",
  "window=17G",
])("%s is wrong usage: status 2 and one line that names it", async (word) => {
  const name = word.replace(/=.*$/, "");
  const { status, stdout, stderr } = await run([word, "--", "true"]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
  expect(stderr).toContain(name);
});

/** Runs `run` into nowhere. */
async function run(words: readonly string[]): Promise<Ended> {
  return await runProgram(["run", "pipe=/dev/null", ...words]);
}

function expectRate({ bytes, data, zeroes, seconds, bytesPerSecond }: Summary): void {
  expect(data + zeroes).toBe(bytes);
  expect(seconds).toBeGreaterThan(0);
  // Or it would not be in seconds: the test itself has no more time.
  expect(seconds).toBeLessThan(LIMIT / 1000);
  expect(Math.abs(bytesPerSecond - bytes / seconds)).toBeLessThanOrEqual(1);
}
