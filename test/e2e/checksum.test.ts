/** `--checksum`: what is told is what the tools of the system compute, and only of whole streams. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Summary } from "../../src/server/summary.ts";
import { bench, nbdcopy, qemuIo, scattered } from "../support/client-commands.ts";
import { type Image, rawImage, sparseImage } from "../support/images.ts";
import { command, type Ended, runProgram, start } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { quoted, shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let full: Image;
let sparse: Image;
let odd: Image;
beforeAll(async () => {
  full = await rawImage(folder.file("full.raw"), 16 * MiB);
  sparse = await sparseImage(folder.file("sparse.qcow2"));
  odd = await rawImage(folder.file("odd.raw"), MiB + 100);
});

/** The algorithms, each with the tool that computes it. */
const ALGORITHMS = [
  { algorithm: "sha256", tool: "sha256sum" },
  { algorithm: "sha512", tool: "sha512sum" },
  { algorithm: "md5", tool: "md5sum" },
  { algorithm: "blake2b512", tool: "b2sum" },
];

const STREAMS = [
  {
    stream: "large requests",
    words: () => nbdcopy(full.path),
    raw: () => full.path,
  },
  {
    stream: "small requests",
    words: () => nbdcopy("--request-size=4096", odd.path),
    raw: () => odd.path,
  },
  {
    stream: "runs of zeroes",
    words: () => ["-f", "qcow2", sparse.path],
    raw: () => `${sparse.path}.raw`,
  },
  {
    stream: "requests in no order, through a spool",
    words: () => [`spool=${folder.path}`, "window=256K", ...scattered(full.path)],
    raw: () => full.path,
  },
];

describe.each(ALGORITHMS)("--checksum=$algorithm", ({ algorithm, tool }) => {
  test.each(STREAMS)("is that of $tool for $stream", async ({ words, raw }) => {
    const options = [`--checksum=${algorithm}`, "--summary=json", ...words()];
    const { status, stdout, stderr } = await runProgram(["run", `pipe=exec:${tool}`, ...options]);
    expect(status).toBe(0);
    const [digest] = (await command([tool, raw()])).replace(/^\\/, "").split(" ");
    expect(stdout).toBe(`${digest}  -\n`);
    expect((JSON.parse(stderr) as Summary).checksum).toEqual({
      algorithm,
      digest: digest as string,
    });
  });
});

test("the summary's line has the checksum", async () => {
  const { stderr } = await intoNowhere(["--checksum=sha256", ...nbdcopy(full.path)]);
  expect(stderr).toMatch(new RegExp(`MiB/s, sha256 ${full.sha256}: complete\\n$`));
});

test("the name of an algorithm may be in capitals", async () => {
  const { stderr } = await intoNowhere(["--checksum=SHA256", ...nbdcopy(full.path)]);
  expect(stderr).toContain(`sha256 ${full.sha256}`);
});

test.each([
  { how: "many requests at a time", words: () => ["-d", "16", "-c", "500", "-s", "4096"] },
  { how: "requests of a sector", words: () => ["-d", "1", "-c", "500", "-s", "512"] },
])("the checksum is right for $how through a window", async ({ words }) => {
  const options = ["window=64M", "--checksum=sha256", "--summary=json"];
  const { stderr, stdout } = await runProgram([
    ...["run", "pipe=exec:sha256sum", ...options],
    ...bench(...words(), "--pattern=3"),
  ]);
  const { checksum } = JSON.parse(stderr) as Summary;
  expect(stdout).toEndWith(`\n${checksum?.digest}  -\n`);
  const [, , , count, , size] = words().map(Number);
  const expected = Buffer.alloc((count as number) * (size as number), 3);
  expect(checksum?.digest).toBe(Bun.SHA256.hash(expected, "hex"));
});

test("the checksum counts the zeroes that lengthen a stream to size=", async () => {
  const { stderr } = await intoNowhere(["size=17M", "--checksum=sha256", ...nbdcopy(full.path)]);
  const whole = Buffer.concat([readFileSync(full.path), Buffer.alloc(MiB)]);
  expect(stderr).toContain(`sha256 ${Bun.SHA256.hash(whole, "hex")}: complete`);
});

test.each([
  { sink: "a Unix pipe", line: 'program run pipe=- "$@" | sha256sum' },
  { sink: "a file", line: 'program run pipe=- "$@" > "$FILE"; sha256sum < "$FILE"' },
])("the checksum is right for $sink with holes", async ({ line }) => {
  const words = ["--checksum=sha256", "-f", "qcow2", sparse.path];
  const env = { FILE: folder.file("holes.raw") };
  const { stdout, stderr } = await shell(line, words, { env });
  expect(stdout).toBe(`${sparse.sha256}  -\n`);
  expect(stderr).toContain(`sha256 ${sparse.sha256}: complete`);
});

describe("--checksum=ALG:FILE", () => {
  test.each(ALGORITHMS)("writes a line that $tool -c accepts", async ({ algorithm, tool }) => {
    using scratch = tempFolder();
    const [fifo, sums] = [scratch.file("disk.raw"), scratch.file("SUMS")];
    const option = `--checksum=${algorithm}:${sums}`;
    await using digest = digestFifo(fifo);
    const { status } = await runProgram(["run", `pipe=${fifo}`, option, full.path]);
    expect(status).toBe(0);
    expect(await digest.sha256()).toBe(full.sha256);
    // What the stream's reader would have stored under that name.
    using stored = tempFolder();
    writeFileSync(stored.file("disk.raw"), readFileSync(full.path));
    expect(await command([tool, "-c", sums], { cwd: stored.path })).toBe("disk.raw: OK\n");
    writeFileSync(stored.file("disk.raw"), readFileSync(full.path).subarray(1));
    await using check = start([tool, "-c", sums], { cwd: stored.path });
    expect((await check.ended()).status).toBe(1);
  });

  test("tells the checksum in the summary, too", async () => {
    const sums = folder.file("SUMS");
    const { stderr } = await intoNowhere([`--checksum=sha256:${sums}`, ...nbdcopy(full.path)]);
    expect(stderr).toContain(`sha256 ${full.sha256}: complete`);
    expect(readFileSync(sums, "utf8")).toBe(`${full.sha256}  null\n`);
  });

  test("is of standard input where the sink has no path", async () => {
    using scratch = tempFolder();
    const sums = scratch.file("SUMS");
    const words = [`--checksum=sha256:${sums}`, full.path];
    for (const line of [
      'program run pipe=- "$@" > copy',
      "program run pipe=exec:'cat > copy' \"$@\"",
    ]) {
      expect((await shell(line, words, { cwd: scratch.path })).status).toBe(0);
      expect(readFileSync(sums, "utf8")).toBe(`${full.sha256}  -\n`);
      expect((await shell("sha256sum -c SUMS < copy", [], { cwd: scratch.path })).stdout).toBe(
        "-: OK\n",
      );
    }
  });

  test.each([
    { how: "broken by its client", words: () => qemuIo("write 4M 1M", "write 0 1M") },
    {
      how: "whose command fails",
      words: () => ["--", `nbdcopy ${quoted(full.path)} "$uri"; exit 9`],
    },
    { how: "whose command never connects", words: () => ["--", "true"] },
  ])("writes no line for a stream $how", async ({ words }) => {
    using scratch = tempFolder();
    const sums = scratch.file("SUMS");
    const { status, stderr } = await intoNowhere([`--checksum=sha256:${sums}`, ...words()]);
    expect(status).not.toBe(0);
    expect(stderr).toContain("truncated: ");
    expect(existsSync(sums)).toBe(false);
  });

  test("leaves no line of an earlier stream in place when this one is truncated", async () => {
    using scratch = tempFolder();
    const sums = scratch.file("SUMS");
    const option = `--checksum=sha256:${sums}`;
    expect((await intoNowhere([option, ...nbdcopy(full.path)])).status).toBe(0);
    expect(readFileSync(sums, "utf8")).toContain(full.sha256);
    expect((await intoNowhere([option, "--", "true"])).status).toBe(4);
    expect(existsSync(sums) ? readFileSync(sums, "utf8") : "").toBe("");
  });

  test("writes a line that sha256sum -c accepts whatever the name of the sink", async () => {
    using scratch = tempFolder();
    const name = "disk\\of\nmine.raw";
    const [fifo, sums] = [scratch.file(name), scratch.file("SUMS")];
    await using digest = digestFifo(fifo);
    const option = `--checksum=sha256:${sums}`;
    expect((await runProgram(["run", `pipe=${fifo}`, option, odd.path])).status).toBe(0);
    expect(await digest.sha256()).toBe(odd.sha256);
    using stored = tempFolder();
    writeFileSync(stored.file(name), readFileSync(odd.path));
    await command(["sha256sum", "--strict", "-c", sums], { cwd: stored.path });
  });
});

/** Runs `run` with a sink that keeps nothing. */
async function intoNowhere(words: readonly string[]): Promise<Ended> {
  return await runProgram(["run", "pipe=/dev/null", ...words]);
}
