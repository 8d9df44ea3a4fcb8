/** Real clients that read, each through `run read=`: what they copy is the source, byte by byte. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { copied, digestDisk, type Feed } from "../support/copied.ts";
import { digestSectors, holedImage, type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { type Ended } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

interface Client {
  readonly title: string;
  /** The captive command, a line of the shell; it copies to `out`. */
  readonly line: string;
  /** Of `out`; raw if not given. */
  readonly format?: string;
  /** What is said of the stream besides its size. None of the clients that copy needs window=. */
  readonly parameters?: readonly string[];
}

const CLIENTS: readonly Client[] = [
  { title: "qemu-img convert to raw", line: convert("-f raw -O raw") },
  { title: "qemu-img convert that looks what format it is", line: convert("-O raw") },
  { title: "qemu-img convert to qcow2", line: convert("-f raw -O qcow2"), format: "qcow2" },
  { title: "qemu-img convert to vmdk", line: convert("-f raw -O vmdk"), format: "vmdk" },
  {
    title: "qemu-img convert to compressed qcow2",
    line: convert("-f raw -O qcow2 -c"),
    format: "qcow2",
  },
  {
    title: "qemu-img convert to compressed qcow2 out of order, 16 at a time",
    line: convert("-f raw -O qcow2 -c -W -m 16"),
    format: "qcow2",
  },
  { title: "qemu-img convert to raw out of order", line: convert("-f raw -O raw -W") },
  {
    title: "qemu-img convert to raw out of order, 16 at a time",
    line: convert("-f raw -O raw -W -m 16"),
  },
  {
    title: "qemu-img convert to qcow2 16 at a time",
    line: convert("-f raw -O qcow2 -m 16"),
    format: "qcow2",
  },
  { title: "qemu-img dd", line: 'qemu-img dd -f raw -O raw bs=1M if="$uri" of=out' },
  {
    title: "qemu-img dd in small pieces",
    line: 'qemu-img dd -f raw -O raw bs=8k if="$uri" of=out',
  },
  { title: "nbdcopy to standard output", line: 'nbdcopy "$uri" - > out' },
  { title: "nbdcopy to a pipe", line: 'nbdcopy "$uri" - | cat > out' },
  { title: "nbdcopy to a file", line: 'nbdcopy "$uri" out' },
  { title: "nbdcopy --synchronous", line: 'nbdcopy --synchronous "$uri" out' },
  { title: "nbdcopy with one connection", line: 'nbdcopy -C 1 "$uri" out' },
  { title: "nbdcopy that wants four connections", line: 'nbdcopy -C 4 -T 4 "$uri" out' },
  { title: "nbdcopy with small requests", line: 'nbdcopy --request-size=4096 "$uri" out' },
  {
    title: "nbdcopy with the largest requests",
    line: 'nbdcopy --request-size=33554432 "$uri" - > out',
  },
  { title: "nbdcopy that asks for no extents", line: 'nbdcopy --no-extents "$uri" out' },
  {
    title: "nbdcopy with a window that it does not need",
    line: 'nbdcopy "$uri" - > out',
    parameters: ["window=3M"],
  },
  { title: "nbdinfo, and then nbdcopy", line: 'nbdinfo "$uri" > info 2>&1; nbdcopy "$uri" out' },
  {
    title: "qemu-img info and map, and then qemu-img convert",
    line: `qemu-img info "$uri" && qemu-img map -f raw "$uri" && ${convert("-f raw -O raw")}`,
  },
];

const ROUTES: readonly {
  readonly feed: Feed;
  readonly transport: string;
  readonly listen: readonly string[];
  /** Of the disk, in mebibytes. */
  readonly size: number;
}[] = [
  { feed: "a FIFO", transport: "a private Unix socket", listen: [], size: 24 },
  { feed: "standard input", transport: "TCP", listen: ["-p", "0"], size: 7 },
];

describe.each(ROUTES)("from $feed over $transport", ({ feed, listen, size }) => {
  let full: Image;
  beforeAll(async () => {
    full = await rawImage(folder.file(`full-${size}.raw`), size * MiB);
  });

  test.each(CLIENTS)("$title gets the exact disk", async (client) => {
    expect(await copy(client, full, feed, listen)).toBe(full.sha256);
  });
});

describe("a disk", () => {
  test.each([
    { title: "of less than a sector", size: 77 },
    { title: "below 1 MiB", size: 300 * KiB },
    { title: "below 1 MiB that ends in a sector", size: 300 * KiB + 5 },
    { title: "a sector short of 1 MiB", size: MiB - 512 },
    { title: "of exactly 1 MiB", size: MiB },
    { title: "of 1 MiB and a byte", size: MiB + 1 },
    { title: "of 1 MiB and a sector", size: MiB + 512 },
    { title: "that ends in a sector", size: 3 * MiB + 77 },
  ])("$title arrives, filled up to whole sectors", async ({ size }) => {
    await arrives(await rawImage(folder.file(`${size}.raw`), size));
  });

  test("full of holes arrives", async () => {
    await arrives(await holedImage(folder.file("holed.raw")));
  });

  async function arrives(image: Image): Promise<void> {
    const sha256 = await digestSectors(image);
    const clients = [
      { title: "qemu-img", line: convert("-O raw") },
      { title: "qemu-img to qcow2", line: convert("-f raw -O qcow2"), format: "qcow2" },
      { title: "nbdcopy", line: 'nbdcopy "$uri" - > out' },
      { title: "nbdcopy in halves of 1 MiB", line: 'nbdcopy --request-size=524288 "$uri" out' },
    ];
    for (const client of clients) {
      expect(await copy(client, image, "a FIFO"), client.title).toBe(sha256);
    }
  }
});

describe("qemu-io", () => {
  /** Every mebibyte is full of its own number. */
  const numbered = folder.file("numbered.raw");
  beforeAll(() => {
    const parts = Array.from({ length: 24 }, (_, mebibyte) => Buffer.alloc(MiB, mebibyte));
    writeFileSync(numbered, Buffer.concat(parts));
  });

  test.each([
    { title: "in order", reads: ["0 0 1M", "1 1M 1M", "2 2M 64k", "2 2112k 448k"] },
    { title: "jumping forward", reads: ["0 0 4k", "5 5M 64k", "5 5200k 1k", "23 23M 1M"] },
    { title: "jumping at once", reads: ["17 17M 1M"] },
    { title: "the first 1 MiB again", reads: ["0 0 1M", "9 9M 2k", "0 0 1M", "0 512k 4k"] },
    { title: "the first 1 MiB for the first time", reads: ["9 9M 2k", "0 0 1M", "0 1023k 1k"] },
    { title: "again in a window", window: "2M", reads: ["3 3M 1M", "3 3M 512k", "4 4M 4k"] },
    { title: "back as far as the window", window: "2M", reads: ["9 9M 1M", "8 8M 2k"] },
  ])("reads $title what is there", async ({ reads, window }) => {
    const ended = await qemuIo(reads, window);
    expect(ended.stdout).not.toContain("failed");
    expect(ended.stdout.match(/^read \d+\/\d+ bytes/gm)).toHaveLength(reads.length);
    expect(ended.status, ended.stderr).toBe(0);
  });

  test.each([
    {
      title: "behind the first 1 MiB",
      reads: ["1 1M 1M", "1 1M 1k"],
      says: /NBD_CMD_READ of 1024 bytes at 1048576 lies behind .* byte 2097152: .* window=1M would/,
    },
    {
      title: "across the end of the first 1 MiB",
      reads: ["1 1M 1M", "0 0 1025k"],
      says: /NBD_CMD_READ of 1049600 bytes at 0 lies behind .* byte 2097152: .* window=1M would/,
    },
    {
      title: "further than the window",
      window: "2M",
      reads: ["9 9M 1M", "7 7M 1k"],
      says: /NBD_CMD_READ of 1024 bytes at 7340032 lies behind .* byte 10485760: .* window=4M would/,
    },
  ])("gets an error when it goes back $title", async ({ reads, window, says }) => {
    const ended = await qemuIo(reads, window);
    expect(ended.stdout).toContain("read failed: Input/output error");
    expect(ended.status).toBe(1);
    expect(ended.stderr).toMatch(says);
    expect(ended.stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
  });

  /** @param reads pattern, offset and length of each */
  async function qemuIo(reads: readonly string[], window?: string): Promise<Ended> {
    const words = reads.flatMap((read) => ["-c", `read -P ${read}`]);
    const kept = window === undefined ? [] : [`window=${window}`];
    const client = ["--", "qemu-io", "-r", "-f", "raw", ...words, "$uri"];
    return await copied("a FIFO", numbered, ["size=24M", ...kept, ...client], folder.path);
  }
});

test("qemu-img compare finds that source and file are the same", async () => {
  const image = await holedImage(folder.file("compared.raw"));
  const words = ["--", "qemu-img", "compare", "-f", "raw", "-F", "raw", image.path, "$uri"];
  const ended = await copied("a FIFO", image.path, [`size=${image.size}`, ...words], folder.path);
  expect(ended).toMatchObject({ status: 0, stdout: expect.stringContaining("identical") });
});

/** @returns SHA-256 of the disk that the client has got */
async function copy(
  { line, format = "raw", parameters = [] }: Client,
  { path, size }: Image,
  feed: Feed,
  listen: readonly string[] = [],
): Promise<string> {
  using place = tempFolder();
  const words = [`size=${size}`, ...parameters, ...listen, "--", line];
  const { status, stderr } = await copied(feed, path, words, place.path);
  expect(stderr).toMatch(/^nbd-streaming: [0-9]+ bytes \([^\n]+: complete\n$/);
  expect(status).toBe(0);
  return await digestDisk(place.file("out"), format);
}

/** A line that copies the stream to `out`. */
function convert(options: string): string {
  return `qemu-img convert ${options} "$uri" out`;
}
