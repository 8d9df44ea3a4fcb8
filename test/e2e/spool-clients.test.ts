/** Real clients that write each part once, in an order of their own, with spool=: the exact stream. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import {
  bench,
  convert,
  digestOf,
  digestPart,
  filled,
  nbdcopy,
  qemuIo,
} from "../support/client-commands.ts";
import { FIO, fio, verifying } from "../support/fio.ts";
import { fragmentedImage, type Image, sparseImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, runProgram } from "../support/program.ts";
import { digestFifo } from "../support/reader.ts";
import { streamed } from "../support/streamed.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** Where the last island of the sparse image ends. */
const SPARSE_DATA_END = 180 * MiB + 64 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

let disks: { readonly fragmented: Image; readonly sparse: Image };
beforeAll(async () => {
  disks = {
    fragmented: await fragmentedImage(folder.file("fragmented.qcow2")),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
  };
});

/** Without memory, with little, and with what there is unless one says something else. */
const WINDOWS = [
  { memory: "no window", window: ["window=0"] },
  { memory: "a small window", window: ["window=1M"] },
  { memory: "the usual window", window: [] },
];

interface Client {
  readonly title: string;
  /** What follows `run pipe=FIFO spool=FOLDER`. */
  readonly args: () => readonly string[];
  /** SHA-256 of the stream that is to come out. */
  readonly stream: () => string | Promise<string>;
}

const CLIENTS: readonly Client[] = [
  {
    title: "qemu-img convert -W -m 16 of a fragmented qcow2",
    args: () => convert("-W", "-m", "16", disks.fragmented.path),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "qemu-img convert -W -m 16 of a sparse qcow2",
    args: () => convert("-W", "-m", "16", disks.sparse.path),
    stream: () => disks.sparse.sha256,
  },
  {
    title: "qemu-img convert -W -m 16 of a sparse qcow2 with size=",
    args: () => ["size=192M", ...convert("-W", "-m", "16", disks.sparse.path)],
    stream: () => disks.sparse.sha256,
  },
  {
    title: "qemu-img convert -W -m 16 -S 4k -t none of a fragmented qcow2",
    args: () => convert("-W", "-m", "16", "-S", "4k", "-t", "none", disks.fragmented.path),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "qemu-img convert -W -m 16 -S 0, which writes zeroes as data,",
    args: () => convert("-W", "-m", "16", "-S", "0", disks.fragmented.path),
    stream: () => disks.fragmented.sha256,
  },
  {
    title:
      "qemu-img convert -W -m 16 --target-is-zero without size=, which ends where the data does,",
    args: () => convert("-W", "-m", "16", "--target-is-zero", disks.sparse.path),
    stream: () => digestPart(`${disks.sparse.path}.raw`, 0, SPARSE_DATA_END),
  },
  {
    title: "qemu-img convert -W -m 16 --target-is-zero with size=",
    args: () => ["size=192M", ...convert("-W", "-m", "16", "--target-is-zero", disks.sparse.path)],
    stream: () => disks.sparse.sha256,
  },
  {
    title: "qemu-img bench -w, 64 requests at a time,",
    args: () => bench("-d", "64", "-c", "1000", "-s", "65536", "--pattern=7"),
    stream: () => digestOf(filled(7, 1000 * 65536)),
  },
  {
    title: "nbdcopy",
    args: () => nbdcopy(`${disks.fragmented.path}.raw`),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "nbdcopy --synchronous",
    args: () => nbdcopy("--synchronous", `${disks.fragmented.path}.raw`),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "nbdcopy --connections=4, of which it opens one,",
    args: () => nbdcopy("--connections=4", `${disks.fragmented.path}.raw`),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "nbdcopy --destination-is-zero of a sparse disk with size=",
    args: () => ["size=192M", ...nbdcopy("--destination-is-zero", `${disks.sparse.path}.raw`)],
    stream: () => disks.sparse.sha256,
  },
  {
    title: "nbdcopy from a server that answers out of order",
    args: () => nbdcopy("--request-size=65536", "--", ...served(`${disks.fragmented.path}.raw`)),
    stream: () => disks.fragmented.sha256,
  },
  {
    title: "qemu-io that zeroes the whole disk first, and then writes here and there,",
    args: () => ["size=64M", ...qemuIo("write -z 0 64M", ...SCATTERED)],
    stream: () => scattered(64),
  },
  {
    title:
      "qemu-io that zeroes the whole disk in parts from its end, and then writes here and there,",
    args: () => ["size=64M", ...qemuIo(...BACKWARD_ZEROES, ...SCATTERED)],
    stream: () => scattered(64),
  },
  {
    title: "qemu-io that writes from the end to the start",
    args: () => qemuIo(...Array.from({ length: 32 }, (_, i) => `write -P ${32 - i} ${31 - i}M 1M`)),
    stream: () => digestOf(...Array.from({ length: 32 }, (_, i) => filled(i + 1, MiB))),
  },
  {
    title: "qemu-io that leaves gaps, the first one at the start,",
    args: () => ["size=64M", ...qemuIo(...SCATTERED)],
    stream: () => scattered(64),
  },
];

/** Megabytes at 50, 3, 17, …: each is full of its own number. */
const PLACES = [50, 3, 17, 62, 18, 1, 40, 33];
const SCATTERED = PLACES.map((at) => `write -P ${at} ${at}M 1M`);
const BACKWARD_ZEROES = [48, 32, 16, 0].map((at) => `write -z ${at}M 16M`);

function scattered(size: number): string {
  const disk = Buffer.alloc(size * MiB);
  for (const at of PLACES) disk.fill(at, at * MiB, (at + 1) * MiB);
  return digestOf(disk);
}

/** nbdcopy's way to name an image behind a server of its own. */
function served(path: string): string[] {
  return ["[", "qemu-nbd", "-r", "-f", "raw", path, "]"];
}

describe.each(WINDOWS)("with $memory", ({ window }) => {
  test.each(CLIENTS)("$title streams the exact disk", async ({ args, stream }) => {
    using spool = tempFolder();
    const words = [`spool=${spool.path}`, ...window, ...args()];
    expect(await streamed(words)).toBe(await stream());
    expect(readdirSync(spool.path)).toEqual([]);
  });

  test.skipIf(!FIO).each(["4k", "64k", "1m"])(
    "fio in random order, each block of %s once, is read back from the stream",
    async (bs) => {
      using place = tempFolder();
      const jobs = verifying("--rw=randwrite", `--bs=${bs}`, "--size=32M");
      const words = [`spool=${place.path}`, ...window, "size=32M"];
      const captive = fio(...jobs, "--do_verify=0");
      const out = place.file("disk");
      const run = ["run", `pipe=exec:cat > '${out}'`, ...words, ...captive];
      const { status, stderr } = await runProgram(run, { cwd: place.path });
      expect(status, stderr).toBe(0);
      await command(["fio", ...jobs, "--verify_only", `--filename=${out}`], { cwd: place.path });
    },
  );
});

test("what is written again is told of --hold, and nothing is left in the folder", async () => {
  using place = tempFolder();
  const fifo = place.file("fifo");
  await using reader = digestFifo(fifo);
  const words = [`spool=${place.path}`, ...qemuIo("write 0 1M", "write 512k 64k")];
  const { status, stderr } = await runProgram(["run", `pipe=${fifo}`, ...words]);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/truncated: .* writes again what is out; use --hold with spool=DIR/);
  await reader.sha256();
  expect(readdirSync(place.path)).toEqual(["fifo"]);
});
