/**
 * What `check` says of a client is true: the line that it gives works, and where it gives none, no
 * stream works, even if it is held.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { ClientFindings } from "../../src/check/report.ts";
import { check, typed } from "../support/check.ts";
import { bench, dd, digestOf, filled, nbdcopy, qemuIo } from "../support/client-commands.ts";
import { holedImage, type Image, qcow2Image, sparseImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, runProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { quoted } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(2 * LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** The disks that the clients copy. */
interface Disks {
  /** Full of data. */
  readonly qcow2: Image;
  /** The same, of 128 MiB. */
  readonly large: Image;
  /** With a hole at its end. */
  readonly sparse: Image;
  /** Raw, with holes. */
  readonly raw: Image;
}
let disks: Disks;

beforeAll(async () => {
  disks = {
    qcow2: await qcow2Image(folder.file("disk.qcow2"), 16 * MiB),
    large: await qcow2Image(folder.file("large.qcow2"), 128 * MiB),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
    raw: await holedImage(folder.file("disk.raw")),
  };
});

interface Client {
  readonly title: string;
  /** The program that it is, where not every machine has it. */
  readonly needs?: string;
  /** What comes after `check pipe=SINK`. */
  readonly args: (disks: Disks) => readonly string[];
  /** What the line is to have besides the pipe, sizes without their numbers; not looked at where absent. */
  readonly with?: readonly string[];
  /** Looks at what the line has brought into a file; absent where there is to be no line. */
  readonly brings?: (path: string, disks: Disks) => Promise<void>;
}

/** The disk, byte by byte. */
const bytesOf =
  (which: keyof Disks) =>
  async (path: string, all: Disks): Promise<void> =>
    expect(await digestFile(path)).toBe(all[which].sha256);

/** An image with the disk in it, which is as it should be, as far as qemu-img can check that. */
const imageOf =
  (format: string) =>
  async (path: string, { raw }: Disks): Promise<void> => {
    await command(["qemu-img", "compare", "-f", format, "-F", "raw", path, raw.path]);
    if (CHECKED.includes(format)) await command(["qemu-img", "check", "-f", format, path]);
  };

const CHECKED = ["qcow2", "vdi", "parallels"];

const bytes =
  (...parts: readonly Buffer[]) =>
  async (path: string): Promise<void> =>
    expect(await digestFile(path)).toBe(digestOf(...parts));

const convert = ({ qcow2 }: Disks, ...words: string[]) => {
  return ["--", "qemu-img", "convert", ...words, "-f", "qcow2", qcow2.path, "-O", "raw", "$nbd"];
};

/** qemu-img, making an image of another format on the stream. */
const making = ({ raw }: Disks, format: string, ...words: string[]) => {
  return ["--", "qemu-img", "convert", "-f", "raw", "-O", format, ...words, raw.path, "$nbd"];
};

/** Where the folder is that no user has named. */
const SPOOL = "spool=/var/tmp";

/** Parts of 80 MiB, the last first: their bytes, and where they are in MiB. */
const FAR = [1, 2, 3, 4, 5].map((byte) => [byte, 400 - 80 * byte] as const);

/** For nbdsh(1). Nothing of it depends on what the disk offers, but that it reads what was written. */
const REWRITING = `
import random
random.seed(7)
disk = bytearray(40 << 20)
for i in range(400):
    at, n = random.randrange(32 << 20) & ~511, random.randrange(1, 128) * 512
    data = random.randbytes(min(n, (32 << 20) - at))
    h.pwrite(data, at)
    disk[at:at + len(data)] = data
    at = random.randrange(32 << 20) & ~511
    n = min(random.randrange(1, 64) * 512, (32 << 20) - at)
    h.zero(n, at)
    disk[at:at + n] = bytes(n)
h.pwrite(b"rewrites" * 64, 0)
disk[:512] = b"rewrites" * 64
if h.can_trim():
    h.trim(1 << 20, 36 << 20)
for at in range(0, 40 << 20, 1 << 20):
    assert h.pread(1 << 20, at) == disk[at:at + (1 << 20)], at
h.shutdown()
`;

const CLIENTS: readonly Client[] = [
  {
    title: "qemu-img convert -n",
    args: (all) => convert(all, "-n"),
    brings: bytesOf("qcow2"),
  },
  {
    title: "qemu-img convert without -n",
    args: (all) => convert(all),
    brings: bytesOf("qcow2"),
  },
  {
    title: "qemu-img convert of several inputs",
    args: ({ raw, qcow2 }) => {
      const words = ["-n", "-f", "raw", raw.path, `${qcow2.path}.raw`, "-O", "raw"];
      return ["--", "qemu-img", "convert", ...words, "$nbd"];
    },
    brings: async (path, { raw, qcow2 }) => {
      const parts = [raw.path, `${qcow2.path}.raw`].map((part) => readFileSync(part));
      expect(await digestFile(path)).toBe(digestOf(...parts));
    },
  },
  {
    title: "qemu-img convert -n -W",
    args: (all) => convert(all, "-n", "-W"),
    brings: bytesOf("qcow2"),
  },
  {
    title: "qemu-img convert -n -W -m 16",
    args: (all) => convert(all, "-n", "-W", "-m", "16"),
    brings: bytesOf("qcow2"),
  },
  {
    title: "qemu-img convert -n -W -m 16 of a larger disk, with a folder that is named",
    args: ({ large }) => {
      const words = ["-n", "-W", "-m", "16", "-f", "qcow2", large.path, "-O", "raw", "$nbd"];
      return [`spool=${dirname(large.path)}`, "--", "qemu-img", "convert", ...words];
    },
    brings: bytesOf("large"),
  },
  {
    title: "qemu-img convert --target-is-zero",
    args: ({ sparse }) => {
      const words = ["-n", "--target-is-zero", "-f", "qcow2", sparse.path, "-O", "raw"];
      return ["--", "qemu-img", "convert", ...words, "$nbd"];
    },
    brings: bytesOf("sparse"),
  },
  {
    title: "qemu-img dd",
    args: ({ raw }) => dd("bs=1M", `if=${raw.path}`, "of=$nbd"),
    brings: bytesOf("raw"),
  },
  {
    title: "qemu-img bench -w",
    args: () => bench("-c", "256", "-s", "4096", "--pattern=65"),
    brings: bytes(filled(65, MiB)),
  },
  {
    title: "qemu-img bench -w with a step",
    args: () => bench("-c", "3", "-s", "4096", "-S", "8192", "-d", "1", "--pattern=65"),
    brings: bytes(
      ...[filled(65, 4096), filled(0, 4096), filled(65, 4096), filled(0, 4096), filled(65, 4096)],
    ),
  },
  {
    title: "nbdcopy FILE",
    args: ({ raw }) => nbdcopy(raw.path),
    brings: bytesOf("raw"),
  },
  {
    title: "nbdcopy --synchronous FILE",
    args: ({ raw }) => nbdcopy("--synchronous", raw.path),
    brings: bytesOf("raw"),
  },
  {
    title: "nbdcopy --destination-is-zero FILE",
    args: ({ sparse }) => nbdcopy("--destination-is-zero", `${sparse.path}.raw`),
    brings: bytesOf("sparse"),
  },
  {
    title: "nbdcopy -",
    args: ({ qcow2 }) => ["--", `nbdcopy - "$uri" < ${qcow2.path}.raw`],
    brings: bytesOf("qcow2"),
  },
  {
    title: "qemu-io, in order",
    args: () => qemuIo("write -P 1 0 1M", "write -z 1M 1M", "write -P 2 2M 64k"),
    brings: bytes(filled(1, MiB), filled(0, MiB), filled(2, 64 * 1024)),
  },
  {
    title: "qemu-io, that reads what is ahead of its turn",
    args: () => qemuIo("write -P 1 1M 1M", "read -P 1 1M 1M", "read -P 0 0 1M", "write -P 2 0 1M"),
    brings: bytes(filled(2, MiB), filled(1, MiB)),
  },
  {
    title: "qemu-io, that reads what lies further ahead than the smallest windows hold",
    args: () => {
      const ahead = ["write -P 1 1M 40M", "write -P 2 50M 40M", "write -P 3 100M 40M"];
      return qemuIo(...ahead, "read -P 1 1M 1M", "write -P 4 0 1M");
    },
    brings: bytes(
      ...[filled(4, MiB), filled(1, 40 * MiB), filled(0, 9 * MiB), filled(2, 40 * MiB)],
      ...[filled(0, 10 * MiB), filled(3, 40 * MiB)],
    ),
  },
  {
    title: "qemu-io, that writes again what is ahead of its turn",
    args: () => qemuIo("write -P 1 1M 1M", "write -P 2 1M 64k", "write -P 3 0 1M"),
    brings: bytes(filled(3, MiB), filled(2, 64 * 1024), filled(1, MiB - 64 * 1024)),
  },
  {
    title: "qemu-io, that writes again what was in order",
    args: () => qemuIo("write -P 1 0 1M", "write -P 2 512k 64k"),
    with: [SPOOL, "--hold"],
    brings: bytes(filled(1, MiB / 2), filled(2, 64 * 1024), filled(1, MiB / 2 - 64 * 1024)),
  },
  {
    title: "qemu-io, that reads what was in order",
    args: () => ["--", 'qemu-io -f raw -c "write -P 1 0 1M" -c "read -P 1 0 64k" "$nbd" && exit 0'],
    with: [SPOOL, "--hold"],
    brings: bytes(filled(1, MiB)),
  },
  {
    title: "qemu-io, that writes the end first, farther ahead than windows hold",
    args: () => qemuIo(...FAR.map(([byte, at]) => `write -P ${byte} ${at}M 80M`)),
    with: [SPOOL],
    brings: bytes(...FAR.toReversed().map(([byte]) => filled(byte, 80 * MiB))),
  },
  {
    title: "qemu-io, that reads what is far ahead, before what comes first",
    args: () => {
      const far = FAR.slice(0, -1).map(([byte, at]) => `write -P ${byte} ${at}M 80M`);
      return qemuIo(...far, "read -P 1 320M 4k", "read -P 4 80M 4k", "write -P 5 0 80M");
    },
    with: [SPOOL],
    brings: bytes(...FAR.toReversed().map(([byte]) => filled(byte, 80 * MiB))),
  },
  {
    title: "qemu-img convert -n, into which qemu-io writes afterwards",
    args: ({ raw }) => {
      const line = `qemu-img convert -n -f raw ${raw.path} -O raw "$nbd"`;
      return ["--", `${line} && qemu-io -f raw -c "write -P 9 0 64k" "$nbd"`];
    },
    with: [SPOOL, "--hold"],
    brings: async (path, { raw }) => {
      const want = readFileSync(raw.path);
      expect(await digestFile(path)).toBe(digestOf(want.fill(9, 0, 64 * 1024)));
    },
  },
  {
    title:
      "nbdcopy, with as many connections as a disk offers, into which qemu-io writes afterwards",
    args: ({ raw }) => {
      const line = `nbdcopy ${raw.path} "$uri" && qemu-io -f raw -c "write -P 9 0 64k" "$nbd"`;
      return ["--", line];
    },
    with: [SPOOL, "--hold"],
    brings: async (path, { raw }) => {
      const want = readFileSync(raw.path);
      expect(await digestFile(path)).toBe(digestOf(want.fill(9, 0, 64 * 1024)));
    },
  },
  {
    title: "libnbd, that writes at random and again, trims, and reads everything back",
    needs: "nbdsh",
    // nbdsh has the Python beside it in mind, and not another one that may come first.
    args: () => {
      const path = `PATH=${dirname(Bun.which("nbdsh") ?? "")}:${process.env["PATH"]}`;
      return ["size=40M", "--", "env", path, "nbdsh", "--uri", "$uri", "-c", REWRITING];
    },
    with: ["size=", SPOOL, "--hold"],
    brings: async (path) => {
      const out = readFileSync(path);
      expect(out.length).toBe(40 * MiB);
      expect(out.subarray(0, 8).toString()).toBe("rewrites");
      expect(out.subarray(32 * MiB).every((byte) => byte === 0)).toBeTrue();
    },
  },
  {
    title: "a fixed VHD",
    args: (all) => making(all, "vpc", "-o", "subformat=fixed,force_size"),
    brings: imageOf("vpc"),
  },
  {
    title: "a fixed VHD, of a size that is given",
    args: (all) => {
      const words = making(all, "vpc", "-o", "subformat=fixed,force_size");
      return [`size=${all.raw.size + 512}`, ...words];
    },
    brings: imageOf("vpc"),
  },
  {
    title: "a dynamic VHD",
    args: (all) => making(all, "vpc", "-o", "subformat=dynamic,force_size"),
    with: [SPOOL, "--hold"],
    brings: imageOf("vpc"),
  },
  {
    title: "a dynamic VHD on a disk that is larger",
    args: (all) => ["size=64M", ...making(all, "vpc", "-o", "subformat=dynamic,force_size")],
    with: ["size=", SPOOL, "--hold", "--no-pad"],
    brings: imageOf("vpc"),
  },
  {
    title: "a VDI",
    args: (all) => making(all, "vdi"),
    with: [SPOOL, "--hold"],
    brings: imageOf("vdi"),
  },
  {
    title: "a parallels image",
    args: (all) => making(all, "parallels"),
    with: [SPOOL, "--hold"],
    brings: imageOf("parallels"),
  },
  // qemu puts the data of these behind the end of the file, which a disk over NBD does not let it do.
  { title: "a VHDX", args: (all) => making(all, "vhdx") },
  { title: "a VMDK", args: (all) => making(all, "vmdk") },
  {
    title: "a VMDK, monolithicFlat",
    args: (all) => making(all, "vmdk", "-o", "subformat=monolithicFlat"),
  },
  {
    title: "a VMDK, streamOptimized",
    args: (all) => making(all, "vmdk", "-o", "subformat=streamOptimized"),
  },
  {
    title: "a qcow2",
    args: (all) => making(all, "qcow2"),
    with: [SPOOL, "--hold"],
    brings: imageOf("qcow2"),
  },
  {
    title: "a qcow2 on a disk that is larger",
    args: (all) => ["size=64M", ...making(all, "qcow2")],
    with: ["size=", SPOOL, "--hold", "--no-pad"],
    brings: imageOf("qcow2"),
  },
  {
    title: "a compressed qcow2",
    args: (all) => making(all, "qcow2", "-c"),
    with: [SPOOL, "--hold"],
    brings: imageOf("qcow2"),
  },
  {
    title: "a qcow2 with preallocated metadata, on a disk that is too small",
    args: (all) => ["size=1M", ...making(all, "qcow2", "-o", "preallocation=metadata")],
    with: [SPOOL, "--hold"],
    brings: imageOf("qcow2"),
  },
  {
    title: "LUKS",
    args: (all) => {
      const secret = ["--object", "secret,id=key,data=secret"];
      return making(all, "luks", ...secret, "-o", "key-secret=key,iter-time=10");
    },
    with: [SPOOL, "--hold"],
    brings: async (path, { raw }) => {
      const source = `driver=luks,key-secret=key,file.filename=${path}`;
      const secret = ["--object", "secret,id=key,data=secret"];
      const other = `driver=raw,file.filename=${raw.path}`;
      await command(["qemu-img", "compare", ...secret, "--image-opts", source, other]);
    },
  },
  {
    title: "fio, which leaves without NBD_CMD_DISC",
    needs: "fio",
    args: () => {
      const words = ["--rw=write", "--bs=64k", "--size=1M", "--output=/dev/null"];
      return ["--", "fio", "--name=job", "--ioengine=nbd", "--uri=$uri", ...words];
    },
  },
];

describe.each(CLIENTS)("$title", ({ needs, args, with: wanted, brings }) => {
  const missing = needs !== undefined && Bun.which(needs) === null;
  const what = brings === undefined ? "no line, and none works" : "a line, and that works";
  test.skipIf(missing)(`${what}${needs === undefined ? "" : ` (needs ${needs})`}`, async () => {
    using scratch = tempFolder();
    const out = scratch.file("out");
    const sink = `pipe=exec:cat > ${quoted(out)}`;
    const { status, report, stderr } = await check([sink, ...args(disks)]);
    const client = report.client as ClientFindings;
    expect(client.streams, `${client.why}\n${stderr}`).toBe(brings !== undefined);
    if (brings !== undefined) {
      expect(status).toBe(0);
      if (wanted !== undefined) expect(partsOf(client)).toEqual([...wanted]);
      const ended = await typed(client.line as string);
      expect(ended.status, ended.stderr).toBe(0);
      await brings(out, disks);
      return;
    }
    expect(status).not.toBe(0);
    for (const size of sizesFor(client)) {
      const held = size.length === 0 ? ["--hold"] : ["--hold", "--no-pad"];
      for (const how of [["window=16G"], [SPOOL, ...held]]) {
        const words = ["run", sink, ...how, ...size, ...withoutSize(args(disks))];
        const ended = await runProgram(words);
        expect(ended.status, `${words.join(" ")}: ${ended.stderr}`).not.toBe(0);
      }
    }
  });
});

/** None, that of the disk, and where the command came to an end. */
function sizesFor({ trials }: ClientFindings): string[][] {
  const ends = trials.map(({ survey }) => Number(survey.end)).filter((end) => end > 0);
  const sizes = new Set([disks.raw.size, disks.qcow2.size, ...ends]);
  return [[], ...[...sizes].map((size) => [`size=${size}`])];
}

function withoutSize(words: readonly string[]): readonly string[] {
  return words.slice(words.indexOf("--"));
}

/** What a line has, as {@link Client.with}. */
function partsOf({ line }: ClientFindings): string[] {
  const words = (line as string).split(" -- ", 1)[0]?.split(" ") ?? [];
  const parts = words.map((word) => word.replace(/^(size|window)=.*/, "$1="));
  return parts.filter((part) => /^(size=|window=|spool=|--)/.test(part));
}
