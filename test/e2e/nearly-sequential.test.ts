/** Real clients that do not quite write from start to end: with what helps them, the exact stream. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFile } from "node:fs/promises";
import {
  bench,
  convert,
  dd,
  digestOf,
  digestPart,
  filled,
  nbdcopy,
  qemuIo,
} from "../support/client-commands.ts";
import { type Image, qcow2Image, rawImage, sparseImage } from "../support/images.ts";
import { command, startProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** Where the last island of the sparse image ends. */
const SPARSE_DATA_END = 180 * MiB + 64 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

interface Disks {
  /** As large as the window that is advised for `-W`, so that any order at all fits into it. */
  readonly full: Image;
  readonly sparse: Image;
  /** Its size is no multiple of a sector. */
  readonly odd: Image;
}
let disks: Disks;

beforeAll(async () => {
  disks = {
    full: await qcow2Image(folder.file("full.qcow2"), 64 * MiB),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
    odd: await rawImage(folder.file("odd.raw"), MiB + 100),
  };
});

interface Client {
  readonly title: string;
  /** What follows `run pipe=FIFO`. */
  readonly args: (disks: Disks) => readonly string[];
  /** SHA-256 of the stream that is to come out. */
  readonly stream: (disks: Disks) => string | Promise<string>;
}

const EXACT: readonly Client[] = [
  {
    title: "qemu-img convert -n -m 16 streams the exact disk",
    args: ({ full }) => convert("-m", "16", full.path),
    stream: ({ full }) => full.sha256,
  },
  {
    title: "qemu-img convert -n -t none streams the exact disk",
    args: ({ full }) => convert("-t", "none", full.path),
    stream: ({ full }) => full.sha256,
  },
  {
    title: "qemu-img convert -n -m 16 -t none streams the exact sparse disk",
    args: ({ sparse }) => convert("-m", "16", "-t", "none", sparse.path),
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img convert --target-is-zero without size= stops where the data does",
    args: ({ sparse }) => convert("--target-is-zero", sparse.path),
    stream: ({ sparse }) => digestPart(`${sparse.path}.raw`, 0, SPARSE_DATA_END),
  },
  {
    title: "qemu-img convert --target-is-zero with size= streams the exact disk",
    args: ({ sparse }) => ["size=192M", ...convert("--target-is-zero", sparse.path)],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img convert -W with window=64M streams the exact disk",
    args: ({ full }) => ["window=64M", ...convert("-W", full.path)],
    stream: ({ full }) => full.sha256,
  },
  {
    title: "qemu-img convert -W -m 16 with window=256M streams the exact disk",
    args: ({ full }) => ["window=256M", ...convert("-W", "-m", "16", full.path)],
    stream: ({ full }) => full.sha256,
  },
  {
    title: "qemu-img convert -W of a sparse disk with window=64M and size= is exact",
    args: ({ sparse }) => ["window=64M", "size=192M", ...convert("-W", sparse.path)],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img convert -W --target-is-zero of a sparse disk with a window and size= is exact",
    args: ({ sparse }) => [
      "window=64M",
      "size=192M",
      ...convert("-W", "--target-is-zero", sparse.path),
    ],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img bench -w, one request at a time, streams its pattern",
    args: () => bench("-d", "1", "-c", "300", "-s", "65536", "--pattern=7"),
    stream: () => digestOf(filled(7, 300 * 65536)),
  },
  {
    title: "qemu-img bench -w in small requests streams its pattern",
    args: () => bench("-d", "1", "-c", "2000", "-s", "512", "--pattern=9"),
    stream: () => digestOf(filled(9, 2000 * 512)),
  },
  {
    title: "qemu-img bench -w that starts late and steps over gaps streams zeroes for them",
    args: () => bench("-c", "3", "-d", "1", "-s", "4k", "-S", "64k", "-o", "8k", "--pattern=5"),
    stream: () => {
      const [piece, gap] = [filled(5, 4096), filled(0, 60 * 1024)];
      return digestOf(filled(0, 8192), piece, gap, piece, gap, piece);
    },
  },
  {
    title: "qemu-img bench -w, 16 requests at a time, with a window streams its pattern",
    args: () => ["window=64M", ...bench("-d", "16", "-c", "1000", "-s", "65536", "--pattern=7")],
    stream: () => digestOf(filled(7, 1000 * 65536)),
  },
  {
    title: "qemu-img dd streams the exact sparse disk",
    args: ({ sparse }) => [...dd("bs=2M"), `if=${sparse.path}.raw`, "of=$nbd"],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "qemu-img dd in small blocks streams the part that it is told to copy",
    args: ({ full }) => [...dd("bs=4k"), "count=500", `if=${full.path}.raw`, "of=$nbd"],
    stream: ({ full }) => digestPart(`${full.path}.raw`, 0, 500 * 4096),
  },
  {
    title: "nbdcopy streams the exact disk",
    args: ({ full }) => nbdcopy(`${full.path}.raw`),
    stream: ({ full }) => full.sha256,
  },
  {
    title: "nbdcopy --synchronous streams the exact disk",
    args: ({ full }) => nbdcopy("--synchronous", `${full.path}.raw`),
    stream: ({ full }) => full.sha256,
  },
  {
    title: "nbdcopy --destination-is-zero without size= stops where the data does",
    args: ({ sparse }) => nbdcopy("--destination-is-zero", `${sparse.path}.raw`),
    stream: ({ sparse }) => digestPart(`${sparse.path}.raw`, 0, SPARSE_DATA_END),
  },
  {
    title: "nbdcopy --destination-is-zero with size= streams the exact disk",
    args: ({ sparse }) => ["size=192M", ...nbdcopy("--destination-is-zero", `${sparse.path}.raw`)],
    stream: ({ sparse }) => sparse.sha256,
  },
  {
    title: "nbdcopy -R 1 -C 1 streams the exact disk",
    args: ({ full }) => nbdcopy("-R", "1", "-C", "1", `${full.path}.raw`),
    stream: ({ full }) => full.sha256,
  },
  {
    title: "nbdcopy from another server with a window streams the exact disk",
    args: ({ full }) => ["window=64M", ...nbdcopy("--", ...served(`${full.path}.raw`))],
    stream: ({ full }) => full.sha256,
  },
  {
    title: "qemu-io that writes the second part first streams the exact disk with a window",
    args: () => ["window=1M", ...qemuIo("write -P 2 1M 1M", "write -P 1 0 1M")],
    stream: () => digestOf(filled(1, MiB), filled(2, MiB)),
  },
  {
    title: "qemu-io whose data lies far ahead streams zeroes for a gap that is never filled",
    args: () => ["window=1M", ...qemuIo("write -P 2 8M 1M")],
    stream: () => digestOf(filled(0, 8 * MiB), filled(2, MiB)),
  },
  {
    title: "an IMAGE that ends within a sector is streamed to the byte",
    args: ({ odd }) => [odd.path],
    stream: ({ odd }) => odd.sha256,
  },
  {
    title: "nbdcopy of a disk that ends within a sector, with size=, streams it to the byte",
    args: ({ odd }) => [`size=${odd.size}`, ...nbdcopy(odd.path)],
    stream: ({ odd }) => odd.sha256,
  },
  {
    title: "a disk shorter than size= is lengthened with zeroes",
    args: ({ odd }) => ["size=2M", ...nbdcopy(odd.path)],
    stream: async ({ odd }) => digestOf(await readFile(odd.path), filled(0, 2 * MiB - (MiB + 100))),
  },
  {
    title: "a disk shorter than size= is left as short as it is with --no-pad",
    args: ({ odd }) => ["size=2M", "--no-pad", ...nbdcopy(odd.path)],
    stream: ({ odd }) => odd.sha256,
  },
];

test.each(EXACT)("$title", async ({ args, stream }) => {
  expect(await streamed(args(disks))).toBe(await stream(disks));
});

test.each([
  { title: "lengthens", options: ["--pad"], status: 0, length: 2 * MiB },
  { title: "with --no-pad accepts", options: ["--no-pad"], status: 0, length: MiB + 100 },
  { title: "with neither fails for", options: [], status: 4, length: MiB + 100 },
])("serve $title a stream shorter than size=", async ({ options, status, length }) => {
  using scratch = tempFolder();
  const [fifo, socket] = [scratch.file("stream.fifo"), scratch.file("nbd.sock")];
  await using digest = digestFifo(fifo);
  const words = ["serve", `pipe=${fifo}`, "size=2M", "-U", socket, ...options];
  await using serving = startProgram(words);
  await serving.saying(/listening on /);
  await command(["nbdcopy", disks.odd.path, `nbd+unix:///?socket=${socket}`]);
  const ended = await serving.ended();
  expect(ended.status).toBe(status);
  const told = status === 0 ? / bytes .*: complete\n$/ : /: truncated: .*size=2097152.*--pad.*\n$/;
  expect(ended.stderr).toMatch(told);
  const padding = filled(0, length - disks.odd.size);
  expect(await digest.sha256()).toBe(digestOf(await readFile(disks.odd.path), padding));
});

/** Clients that are told that the disk is zeroes already, and leave those at its end out. */
const LEAVING_OUT = [
  [
    "qemu-img convert --target-is-zero",
    (uri: string) => [...TARGET_IS_ZERO, disks.sparse.path, uri],
  ],
  [
    "nbdcopy --destination-is-zero",
    (uri: string) => ["nbdcopy", "--destination-is-zero", `${disks.sparse.path}.raw`, uri],
  ],
] as const;
const TARGET_IS_ZERO = "qemu-img convert -n --target-is-zero -f qcow2 -O raw".split(" ");

describe.each(LEAVING_OUT)("%s of a disk with a hole at its end", (_, client) => {
  test("streams the exact disk by run with size=", async () => {
    expect(await streamed(["size=192M", "--", ...client("$uri")])).toBe(disks.sparse.sha256);
  });

  test.each([
    { options: [], status: 4 },
    { options: ["--pad"], status: 0 },
  ])("ends with $status by serve with size= and $options", async ({ options, status }) => {
    using scratch = tempFolder();
    const [fifo, socket] = [scratch.file("stream.fifo"), scratch.file("nbd.sock")];
    await using digest = digestFifo(fifo);
    const words = ["serve", `pipe=${fifo}`, "size=192M", "-U", socket, ...options];
    await using serving = startProgram(words);
    await serving.saying(/listening on /);
    await command([...client(`nbd+unix:///?socket=${socket}`)]);
    const ended = await serving.ended();
    expect(ended.status, ended.stderr).toBe(status);
    if (status === 0) expect(await digest.sha256()).toBe(disks.sparse.sha256);
  });
});

/** nbdcopy's way to name an image behind a server of its own. */
function served(path: string): string[] {
  return ["[", "qemu-nbd", "-r", "-f", "raw", path, "]"];
}
