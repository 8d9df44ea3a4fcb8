/** Real clients, each through `run`: what comes out of the FIFO is the disk, byte by byte. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { digestOf } from "../support/client-commands.ts";
import { type Image, pseudoRandom, qcow2Image, rawImage, sparseImage } from "../support/images.ts";
import { digestFile } from "../support/reader.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** Where the last island of the sparse image ends. */
const SPARSE_DATA_END = 180 * MiB + 64 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** The disks that the clients copy. */
interface Disks {
  readonly raw: Image;
  readonly qcow2: Image;
  readonly sparse: Image;
  /** Its size is no multiple of a sector. */
  readonly odd: Image;
}
let disks: Disks;

beforeAll(async () => {
  disks = {
    raw: await rawImage(folder.file("disk.raw"), 8 * MiB),
    qcow2: await qcow2Image(folder.file("disk.qcow2"), 16 * MiB),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
    odd: await rawImage(folder.file("odd.raw"), 3 * MiB + 77),
  };
});

interface Client {
  readonly title: string;
  /** What follows `run pipe=FIFO`. */
  readonly args: (disks: Disks) => readonly string[];
  /** SHA-256 of the stream that is to come out. */
  readonly stream: (disks: Disks) => string | Promise<string>;
}

const CLIENTS: readonly Client[] = [
  {
    title: "qemu-img convert -n from qcow2 streams the exact disk",
    args: ({ qcow2 }) => convert("-n", "-f", "qcow2", qcow2.path),
    stream: ({ qcow2 }) => qcow2.sha256,
  },
  {
    title: "qemu-img convert without -n streams the exact disk",
    args: ({ qcow2 }) => convert("-f", "qcow2", qcow2.path),
    stream: ({ qcow2 }) => qcow2.sha256,
  },
  {
    title: "qemu-img convert -n from raw streams the exact disk",
    args: ({ raw }) => convert("-n", "-f", "raw", raw.path),
    stream: ({ raw }) => raw.sha256,
  },
  {
    title: "qemu-img convert -n from two raw images streams one after the other",
    args: ({ raw, qcow2 }) => convert("-n", "-f", "raw", raw.path, `${qcow2.path}.raw`),
    stream: ({ raw, qcow2 }) => digestFiles(raw.path, `${qcow2.path}.raw`),
  },
  {
    title:
      "qemu-img convert -n from sparse qcow2 streams the zeroes too, those at the end included",
    args: ({ sparse }) => convert("-n", "-f", "qcow2", sparse.path),
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img convert without -n from sparse qcow2 streams the zeroes too",
    args: ({ sparse }) => convert("-f", "qcow2", sparse.path),
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img convert --target-is-zero leaves the zeroes at the end out of the stream",
    args: ({ sparse }) => convert("-n", "--target-is-zero", "-f", "qcow2", sparse.path),
    stream: ({ sparse }) => digestStart(`${sparse.path}.raw`, SPARSE_DATA_END),
  },
  {
    title: "qemu-img convert --target-is-zero with size= streams the exact disk",
    args: ({ sparse }) => [
      "size=192M",
      ...convert("-n", "--target-is-zero", "-f", "qcow2", sparse.path),
    ],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img dd streams the exact disk",
    args: ({ raw }) => [...QEMU_DD, `if=${raw.path}`, "of=$nbd"],
    stream: ({ raw }) => raw.sha256,
  },
  {
    title: "nbdcopy from a file streams the exact disk",
    args: ({ raw }) => ["--", "nbdcopy", raw.path, "$uri"],
    stream: ({ raw }) => raw.sha256,
  },
  {
    title: "nbdcopy from a sparse file streams the zeroes too",
    args: ({ sparse }) => ["--", "nbdcopy", `${sparse.path}.raw`, "$uri"],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "nbdcopy from a pipe streams the exact disk",
    args: ({ raw }) => ["--", `cat '${raw.path}' | nbdcopy - "$uri"`],
    stream: ({ raw }) => raw.sha256,
  },
  {
    title: "qemu-io streams writes that follow each other",
    args: () => qemuIo("write -P 1 0 1M", "write -P 2 1M 1M"),
    stream: () => digestOf(filled(1, MiB), filled(2, MiB)),
  },
  {
    title: "qemu-io streams zeroes for a gap between two writes",
    args: () => qemuIo("write -P 1 0 1M", "write -P 2 5M 64k"),
    stream: () => digestOf(filled(1, MiB), filled(0, 4 * MiB), filled(2, 64 * 1024)),
  },
  {
    title: "qemu-io streams zeroes that it asked for at the end",
    args: () => qemuIo("write -P 1 0 1M", "write -z 1M 3M"),
    stream: () => digestOf(filled(1, MiB), filled(0, 3 * MiB)),
  },
  {
    title: "qemu-io with size= streams zeroes for what it left out at the end",
    args: () => ["size=4M", ...qemuIo("write -P 1 1M 1M")],
    stream: () => digestOf(filled(0, MiB), filled(1, MiB), filled(0, 2 * MiB)),
  },
  {
    title: "an IMAGE instead of a command streams the exact disk",
    args: ({ qcow2 }) => [qcow2.path],
    stream: ({ qcow2 }) => qcow2.sha256,
  },
  {
    title: "an IMAGE that ends in a hole streams the exact disk",
    args: ({ sparse }) => ["-f", "qcow2", sparse.path],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "an IMAGE with -f raw is streamed as it is, whatever is in it",
    args: ({ qcow2 }) => ["-f", "raw", qcow2.path],
    stream: ({ qcow2 }) => digestFile(qcow2.path),
  },
  {
    title: "an IMAGE with a part of a sector at its end streams exactly the file",
    args: ({ odd }) => ["-f", "raw", odd.path],
    stream: ({ odd }) => odd.sha256,
  },
  {
    title: "an IMAGE with a part of a sector at its end streams exactly the file without -f too",
    args: ({ odd }) => [odd.path],
    stream: ({ odd }) => odd.sha256,
  },
];

describe.each([
  { transport: "a private Unix socket", listen: [] },
  { transport: "TCP", listen: ["-p", "0"] },
])("over $transport", ({ listen }) => {
  test.each(CLIENTS)("$title", async ({ args, stream }) => {
    expect(await streamed([...listen, ...args(disks)])).toBe(await stream(disks));
  });
});

test("nbdcopy reads the program's own standard input", async () => {
  const input = folder.file("stdin.raw");
  writeFileSync(input, pseudoRandom(2 * MiB, 7));
  const sha256 = await streamed(["--", "nbdcopy", "-", "$uri"], { stdin: Bun.file(input) });
  expect(sha256).toBe(await digestFile(input));
});

/** qemu-img convert to the stream. */
function convert(...words: readonly string[]): string[] {
  return ["--", "qemu-img", "convert", "-O", "raw", ...words, "$nbd"];
}

const QEMU_DD = ["--", "qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=1M"] as const;

function qemuIo(...commands: readonly string[]): string[] {
  return ["--", "qemu-io", "-f", "raw", ...commands.flatMap((io) => ["-c", io]), "$nbd"];
}

function filled(byte: number, length: number): Buffer {
  return Buffer.alloc(length, byte);
}

async function digestFiles(...paths: readonly string[]): Promise<string> {
  return digestOf(...(await Promise.all(paths.map((path) => readFile(path)))));
}

async function digestStart(path: string, length: number): Promise<string> {
  return digestOf((await readFile(path)).subarray(0, length));
}
