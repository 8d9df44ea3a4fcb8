/** The last word on a stream that is read: its line, its object, and its checksum. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { Summary } from "../../src/server/summary.ts";
import { qemuIo } from "../support/client-commands.ts";
import { type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, type Ended, runProgram, startProgram } from "../support/program.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disk: Image;
beforeAll(async () => {
  disk = await rawImage(folder.file("disk.raw"), 4 * MiB + 1000);
});

/** A client that reads all, to the end of the last sector. */
const WHOLE = ["--", "nbdcopy", "$uri", "null:"];

describe("--summary=json", () => {
  test("tells of a stream that was read to its end", async () => {
    const { status, stdout, stderr } = await run("--summary=json", ...WHOLE);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
    expect(stderr).toMatch(/^\{[^\n]*\}\n$/);
    expect(JSON.parse(stderr)).toEqual({
      complete: true,
      reason: null,
      bytes: disk.size,
      data: disk.size,
      zeroes: 0,
      seconds: expect.any(Number),
      bytesPerSecond: expect.any(Number),
      checksum: null,
      window: null,
      spool: null,
      surplus: null,
      warnings: [],
    });
  });

  test("tells how much the source has more than size=", async () => {
    const summary = summaryOf(await run("size=4M", "--summary=json", ...WHOLE));
    expect(summary).toMatchObject({ complete: true, bytes: 4 * MiB, surplus: 1000 });
  });

  test("tells of no surplus where a client has not read to the end", async () => {
    const summary = summaryOf(await run("size=4M", "--summary=json", ...qemuRead("0 2M")));
    expect(summary).toMatchObject({ complete: true, bytes: 2 * MiB, surplus: null });
  });

  test("tells what was padded", async () => {
    const summary = summaryOf(await run("size=6M", "--pad", "--summary=json", ...WHOLE));
    const zeroes = 6 * MiB - disk.size;
    expect(summary).toMatchObject({ complete: true, bytes: 6 * MiB, data: disk.size, zeroes });
  });

  test("tells of a source that ended early", async () => {
    const ended = await run("size=6M", "--summary=json", ...WHOLE);
    expect(ended.status).toBe(1);
    expect(summaryOf(ended)).toMatchObject({
      complete: false,
      reason: expect.stringContaining(`ended at byte ${disk.size} of size=${6 * MiB}`),
      zeroes: 0,
    });
  });

  test("counts what was passed over", async () => {
    const summary = summaryOf(await run("--summary=json", ...qemuRead("3M 1M")));
    expect(summary).toMatchObject({ complete: true, bytes: 4 * MiB, data: 4 * MiB });
  });

  test("tells the window and how much of it was needed, what is kept anyway aside", async () => {
    const reads = qemuRead("0 1M", "1M 2M", "0 1M", "2M 1M");
    const summary = summaryOf(await run("window=3M", "--summary=json", ...reads));
    expect(summary).toMatchObject({ complete: true, window: { size: 3 * MiB, needed: MiB } });
  });

  test("tells of a command that never connects", async () => {
    const ended = await run("--summary=json", "--", "true");
    expect(ended.status).toBe(4);
    expect(summaryOf(ended)).toMatchObject({
      complete: false,
      reason: expect.stringContaining("without connecting"),
      bytes: 0,
    });
  });
});

describe("--checksum", () => {
  test.each([
    { kind: "a file", line: 'program run read="$FILE" "$@"' },
    { kind: "a pipe", line: 'cat "$FILE" | program run read=- size="$SIZE" "$@"' },
  ])(
    "is that of the whole source, without the rest of the last sector: $kind",
    async ({ line }) => {
      const words = ["--checksum=sha256", ...WHOLE];
      const env = { FILE: disk.path, SIZE: String(disk.size) };
      const { status, stderr } = await shell(line, words, { env });
      expect(stderr).toContain(`, sha256 ${disk.sha256}: complete\n`);
      expect(status).toBe(0);
    },
  );

  test.each([
    { what: "of what was passed over, too", reads: ["512k 4k", "3M 1M"], bytes: 4 * MiB },
    { what: "of what was read twice, once", reads: ["0 1M", "0 1M", "1M 1M"], bytes: 2 * MiB },
    { what: "of the part that was read", reads: ["0 3k"], bytes: 3 * 1024 },
  ])("is $what", async ({ reads, bytes }) => {
    const words = ["--checksum=sha512", "--summary=json", ...qemuRead(...reads)];
    const read = readFileSync(disk.path).subarray(0, bytes);
    expect(summaryOf(await run(...words))).toMatchObject({
      bytes,
      checksum: { algorithm: "sha512", digest: Bun.SHA512.hash(read, "hex") },
    });
  });

  test("is of the zeroes, too, that were put at the end, and of nothing behind size=", async () => {
    const data = readFileSync(disk.path);
    const padded = Buffer.concat([data, Buffer.alloc(6 * MiB - data.length)]);
    for (const [size, bytes] of [
      ["6M", padded],
      ["2M", data.subarray(0, 2 * MiB)],
    ] as const) {
      const words = [`size=${size}`, "--pad", "--checksum=md5", "--summary=json", ...WHOLE];
      const { checksum } = summaryOf(await run(...words));
      expect(checksum).toEqual({ algorithm: "md5", digest: Bun.MD5.hash(bytes, "hex") });
    }
  });

  test("goes to a file that sha256sum reads, with the source's name", async () => {
    using place = tempFolder();
    await command(["cp", disk.path, place.file("source.raw")]);
    const words = ["run", "read=source.raw", "--checksum=sha256:sums", ...WHOLE];
    expect(await runProgram(words, { cwd: place.path })).toMatchObject({ status: 0 });
    const check = await command(["sha256sum", "-c", "sums"], { cwd: place.path });
    expect(check).toBe("source.raw: OK\n");
  });

  test("is in no file when the stream is truncated", async () => {
    const sums = folder.file("sums");
    const ended = await run("size=6M", `--checksum=sha256:${sums}`, ...WHOLE);
    expect(ended.status).toBe(1);
    expect(existsSync(sums)).toBeFalse();
  });
});

test("one stream's source may be what another stream is written to", async () => {
  using place = tempFolder();
  const fifo = place.file("between.fifo");
  const reading = ["run", `read=${fifo}`, `size=${disk.size}`, "--checksum=sha256", ...WHOLE];
  await using reader = startProgram(reading);
  const writer = await runProgram(["run", `pipe=${fifo}`, "--checksum=sha256", disk.path]);
  const read = await reader.ended();
  for (const { status, stderr } of [writer, read]) {
    expect(stderr).toContain(`sha256 ${disk.sha256}: complete\n`);
    expect(status).toBe(0);
  }
});

/** Offset and length of each. */
function qemuRead(...reads: readonly string[]): string[] {
  return qemuIo(...reads.map((read) => `read ${read}`)).toSpliced(2, 0, "-r");
}

function run(...words: readonly string[]): Promise<Ended> {
  return runProgram(["run", `read=${disk.path}`, ...words]);
}

function summaryOf({ stderr }: Ended): Summary {
  return JSON.parse(stderr.split("\n").find((line) => line.startsWith("{")) ?? "{}") as Summary;
}
