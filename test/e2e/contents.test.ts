/** Streams that begin like something else than a disk: a warning, whatever they come out of or go into. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { NBD_OK } from "../../src/protocol/constants.ts";
import { run, type Summary } from "../../src/index.ts";
import { qcow2Image } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { command, type Ended, PROGRAM, start, startProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { quoted } from "../support/shell.ts";
import { delaying, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { DISC } from "../support/stream.ts";
import { tempFolder } from "../support/temp.ts";
import { encodeWrite } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** Bytes before the payload of a WRITE. */
const WRITE_HEADER = encodeWrite(0, new Uint8Array(0)).length;
const LIKE_QCOW2 = /begins like an image of the format qcow2, and is taken as it is: /;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const image = folder.file("disk.qcow2");
const compressed = folder.file("disk.gz");
beforeAll(async () => {
  await qcow2Image(image, 2 * MiB);
  await command(["sh", "-c", `gzip -c '${image}.raw' > '${compressed}'`]);
});

/** Runs a line of the shell, in which `nbd-streaming` is the program, in a folder of its own. */
async function told(line: string): Promise<Ended & { warnings: string[]; summary: Summary }> {
  using scratch = tempFolder();
  copyFileSync(image, scratch.file("disk.qcow2"));
  copyFileSync(`${image}.raw`, scratch.file("disk.raw"));
  copyFileSync(compressed, scratch.file("disk.gz"));
  const program = PROGRAM.map(quoted).join(" ");
  const words = line
    .replace("nbd-streaming", `${program} `)
    .replace(" run ", " run --summary=json:told ");
  await using running = start(["sh", "-c", words], { cwd: scratch.path, group: true });
  const ended = await running.ended();
  const warnings = [...ended.stderr.matchAll(/^nbd-streaming: warn: (.*)$/gm)].map(
    ([, text]) => text as string,
  );
  const summary = JSON.parse(readFileSync(scratch.file("told"), "utf8")) as Summary;
  return { ...ended, warnings, summary };
}

/** The size of the file, as a disk of these bytes. */
const size = () => `size=${readFileSync(image).length}`;

describe("a qcow2 that is streamed as if it were a raw disk gets one warning, out of", () => {
  test.each([
    ["a file", () => "nbd-streaming run read=disk.qcow2 copy.raw"],
    ["a command", () => `nbd-streaming run read=exec:'cat disk.qcow2' ${size()} copy.raw`],
    ["standard input", () => `cat disk.qcow2 | nbd-streaming run read=- ${size()} copy.raw`],
    ["a FIFO", () => `mkfifo f; cat disk.qcow2 > f & nbd-streaming run read=f ${size()} copy.raw`],
    [
      "a pipe that gives a few bytes at a time",
      () =>
        `(head -c 3; sleep 0.1; head -c 300; sleep 0.1; cat) < disk.qcow2 | nbd-streaming run read=- ${size()} copy.raw`,
    ],
    [
      "nbdcopy, as the client",
      () => "nbd-streaming run read=disk.qcow2 -- nbdcopy '$uri' copy.raw",
    ],
  ])("%s", async (_, line) => {
    const { status, warnings, summary } = await told(line());
    expect(status).toBe(0);
    expect(warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
    expect(summary.warnings).toEqual(warnings);
  });

  test("a socket", async () => {
    const bytes = readFileSync(image);
    const server = createServer((connection) => connection.end(bytes));
    const path = folder.file("source.sock");
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      const { warnings } = await told(`nbd-streaming run read=${path} ${size()} copy.raw`);
      expect(warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
    } finally {
      server.close();
    }
  });
});

describe("a qcow2 that a client writes as if it were a raw disk gets one warning, from", () => {
  test.each([
    ["nbdcopy", "nbdcopy disk.qcow2 '$uri'"],
    ["nbdcopy with small requests", "nbdcopy --request-size=4096 disk.qcow2 '$uri'"],
    ["nbdcopy from a pipe", `'nbdcopy - "$uri" < disk.qcow2'`],
    ["qemu-img that is told so", "qemu-img convert -n -f raw disk.qcow2 -O raw '$nbd'"],
    ["qemu-io, with a few bytes", `'qemu-io -f raw -c "write -s disk.qcow2 0 512" "$nbd"'`],
  ])("%s", async (_, client) => {
    for (const window of ["", "window=1M ", "--reconnect 5 "]) {
      const { status, warnings, summary } = await told(
        `nbd-streaming run pipe=exec:'cat > out' ${window}-- ${client}`,
      );
      expect(status).toBe(0);
      expect(warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
      expect(summary.warnings).toEqual(warnings);
    }
  });

  test("an IMAGE with -f raw", async () => {
    const { warnings } = await told("nbd-streaming run pipe=exec:'cat > out' -f raw disk.qcow2");
    expect(warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
  });

  test("a client of serve", async () => {
    const socket = folder.file("nbd.sock");
    const words = ["serve", "pipe=/dev/null", "-U", socket, "--summary=json"];
    await using serving = startProgram(words);
    await serving.saying(/listening on /);
    await command(["nbdcopy", image, `nbd+unix:///?socket=${socket}`]);
    const { status, stderr } = await serving.ended();
    expect(status).toBe(0);
    const summary = JSON.parse(/^\{.*$/m.exec(stderr)?.[0] ?? "") as Summary;
    expect(summary.warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
  });
});

test("a compressed file gets one, as an IMAGE, too", async () => {
  const { warnings } = await told("nbd-streaming run pipe=exec:'cat > out' disk.gz");
  expect(warnings).toEqual([expect.stringMatching(/begins like what gzip has compressed, /)]);
});

test(`a payload that comes between a look at the socket and splice(2) is looked at, too ${NEEDS_STRACE}`, async () => {
  if (!STRACE_WORKS) return;
  const socket = folder.file("late.sock");
  const words = [...PROGRAM, "serve", "pipe=/dev/null", "-U", socket];
  await using serving = start([...delaying("splice", 500), ...words], { group: true });
  await serving.saying(/listening on /);
  const client = await RawClient.transmission(socket);
  const request = encodeWrite(0, readFileSync(image));
  client.send(request.subarray(0, WRITE_HEADER));
  await Bun.sleep(250);
  client.send(request.subarray(WRITE_HEADER));
  expect((await client.reply()).error).toBe(NBD_OK);
  client.send(DISC);
  const { status, stderr } = await serving.ended();
  expect(status).toBe(0);
  expect(stderr).toMatch(LIKE_QCOW2);
});

describe("there is no warning for", () => {
  test.each([
    ["an IMAGE that is read as what it is", "nbd-streaming run pipe=exec:'cat > out' disk.qcow2"],
    ["an IMAGE that is made", "nbd-streaming run read=disk.raw copy.qcow2"],
    ["a raw disk", "nbd-streaming run pipe=exec:'cat > out' -- nbdcopy disk.raw '$uri'"],
    [
      "a fixed VHD",
      "nbd-streaming run pipe=exec:'cat > out' size=2097664 window=64M -- " +
        "qemu-img convert -f raw disk.raw -O vpc -o subformat=fixed,force_size '$nbd'",
    ],
    [
      "an image that the client reads as what it is",
      "nbd-streaming run read=disk.qcow2 -- qemu-img convert -f qcow2 '$nbd' -O raw copy.raw",
    ],
    [
      "an image that does not stand at the start",
      `nbd-streaming run pipe=exec:'cat > out' -- 'qemu-io -f raw -c "write -s disk.qcow2 64k 64k" "$nbd"'`,
    ],
    [
      "a disk that begins with zeroes, though somebody comes to its start later",
      `nbd-streaming run pipe=exec:'cat > out' -- 'qemu-io -f raw -c "write -z 0 64k" -c "write 64k 64k" "$nbd"'`,
    ],
  ])("%s", async (_, line) => {
    const { status, stderr, warnings, summary } = await told(line);
    expect(status, stderr).toBe(0);
    expect(warnings).toEqual([]);
    expect(summary.warnings).toEqual([]);
  });
});

test("a surplus is among the warnings of the summary", async () => {
  const { status, warnings, summary } = await told(
    "nbd-streaming run read=disk.raw size=1M copy.qcow2",
  );
  expect(status).toBe(0);
  expect(warnings).toEqual([expect.stringMatching(/ has 1048576 bytes more than size=1048576/)]);
  expect(summary.warnings).toEqual(warnings);
});

test("--quiet leaves the warning to the summary", async () => {
  const line = "nbd-streaming run -q pipe=exec:'cat > out' -- nbdcopy disk.qcow2 '$uri'";
  const { warnings, summary } = await told(line);
  expect(warnings).toEqual([]);
  expect(summary.warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
});

test("a program of one's own has it as a message and in the summary, and the bytes are all there", async () => {
  const out = folder.file("out");
  const stream = run({ pipe: `exec:cat > ${out}`, command: ["nbdcopy", image, "$uri"] });
  const warned: string[] = [];
  stream.on("message", ({ level, text }) => {
    if (level === "warn") warned.push(text);
  });
  const { warnings } = await stream;
  expect(warnings).toEqual([expect.stringMatching(LIKE_QCOW2)]);
  expect(warned).toEqual([...warnings]);
  expect(await digestFile(out)).toBe(await digestFile(image));
});
