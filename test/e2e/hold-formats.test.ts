/** qemu-img makes images in a stream with --hold: what comes out is what it makes in a file. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { fragmentedImage, type Image, sparseImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, type Ended, eventually, runProgram, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

const DISKS = ["fragmented", "sparse"] as const;
let disks: Record<(typeof DISKS)[number], Image>;
beforeAll(async () => {
  disks = {
    fragmented: await fragmentedImage(folder.file("fragmented.qcow2")),
    sparse: await sparseImage(folder.file("sparse.qcow2")),
  };
});

interface Format {
  readonly format: string;
  /** Words of qemu-img convert. */
  readonly words: readonly string[];
  /** qemu-img check knows the format. */
  readonly checked: boolean;
  /** The bytes depend on nothing else than the disk; others have the time or a UUID in them. */
  readonly fixed?: boolean;
  /**
   * Bytes at the end that a stream lacks, at most: qemu-img lengthens a file to whole sectors, and a disk
   * cannot be lengthened. They are zeroes, and nothing reads them.
   */
  readonly lacking?: number;
}

function qcow2(...words: string[]): Format {
  return { format: "qcow2", words: ["-O", "qcow2", ...words], checked: true, fixed: true };
}

/** Formats whose images end behind what is written last. */
const FORMATS: readonly Format[] = [
  qcow2(),
  qcow2("-o", "cluster_size=4k"),
  qcow2("-o", "cluster_size=2M"),
  qcow2("-o", "compat=0.10"),
  qcow2("-o", "extended_l2=on,cluster_size=128k"),
  qcow2("-o", "lazy_refcounts=on"),
  qcow2("-S", "0"),
  { ...qcow2("-W", "-m", "16"), fixed: false },
  { ...qcow2("-c"), fixed: false, lacking: 511 },
  { ...qcow2("-c", "-o", "compression_type=zstd"), fixed: false, lacking: 511 },
  { ...qcow2("-c", "-W", "-m", "16"), fixed: false, lacking: 511 },
  { format: "vdi", words: ["-O", "vdi"], checked: true },
  { format: "vdi", words: ["-O", "vdi", "-o", "static=on"], checked: true },
  { format: "vpc", words: ["-O", "vpc", "-o", "force_size=on"], checked: false },
];

describe.each(FORMATS)("qemu-img convert $words", (one) => {
  const { words, fixed = false, lacking = 0 } = one;
  test.each([
    { disk: "fragmented", size: [] },
    { disk: "sparse", size: ["size=1T"] },
  ] as const)("of a $disk disk makes the same image, with %p", async ({ disk, size }) => {
    using place = tempFolder();
    const own = await convertIntoFile(words, disks[disk], place.file("own"));
    await streamInto(place.file("out"), ["--no-pad", ...size], words, disks[disk]);
    await expectImage(place.file("out"), one, disks[disk]);
    const [ours = 0, theirs = 0] = [place.file("out"), own].map((path) => statSync(path).size);
    expect(theirs - ours).toBeGreaterThanOrEqual(0);
    expect(theirs - ours).toBeLessThanOrEqual(lacking);
    if (fixed) expect(readFileSync(place.file("out")).equals(readFileSync(own))).toBeTrue();
  });
});

describe("an image of a size that is known", () => {
  test.each(["metadata", "falloc", "full"])(
    "is a qcow2 with preallocation=%s, which lengthens a file at its end",
    async (preallocation) => {
      using place = tempFolder();
      const words = ["-O", "qcow2", "-o", `preallocation=${preallocation}`];
      const disk = disks.fragmented;
      const own = await convertIntoFile(words, disk, place.file("own"));
      const measure = ["qemu-img", "measure", "--output=json", "-f", "qcow2", ...words, disk.path];
      const size = JSON.parse(await command(measure)) as { "fully-allocated": number };
      await streamInto(place.file("out"), [`size=${size["fully-allocated"]}`], words, disk);
      expect(statSync(place.file("out")).size).toBe(statSync(own).size);
      // Otherwise it ends behind the last data, and what is not there reads as zeroes.
      await streamInto(place.file("short"), ["--no-pad", "size=1T"], words, disk);
      expect(statSync(place.file("short")).size).toBeLessThan(statSync(own).size);
      for (const name of ["out", "short"]) {
        await expectImage(place.file(name), { format: "qcow2", checked: true }, disk);
      }
    },
  );

  test("is a fixed VHD, whose footer is at the end of the file", async () => {
    using place = tempFolder();
    const words = ["-O", "vpc", "-o", "subformat=fixed,force_size=on"];
    const own = await convertIntoFile(words, disks.fragmented, place.file("own"));
    const { size } = statSync(own);
    await streamInto(place.file("out"), [`size=${size}`], words, disks.fragmented);
    await expectImage(place.file("out"), { format: "vpc", checked: false }, disks.fragmented);
    expect(statSync(place.file("out")).size).toBe(size);
  });
});

/** qemu-img lengthens the files of these, and no disk can be lengthened. */
const GROWING = [
  ["vmdk"],
  ["vmdk", "-o", "subformat=streamOptimized"],
  ["vhdx"],
  ["vhdx", "-o", "subformat=fixed"],
  ["qed"],
  ["qcow"],
];

describe.each(GROWING)("an image that grows (%s %s %s)", (...words) => {
  test.each([[["--no-pad"]], [["--no-pad", "size=1T"]]])(
    "is told of, with %p, and its sink is not even opened",
    async (size) => {
      using place = tempFolder();
      const options = [`spool=${place.path}`, "--hold", ...size];
      const run = ["run", `pipe=exec:echo > '${place.file("out")}'`, ...options, "--"];
      const { status, stderr } = await runProgram([...run, ...convert(disks.fragmented, words)]);
      expect(status).toBe(1);
      expect(stderr).toMatch(/qemu-img: .*\n/);
      expect(stderr).toMatch(/truncated: .*, or its image is one that grows .* needs a file\n$/);
      expect(readdirSync(place.path)).toEqual([]);
    },
  );

  test("is no better with qemu's own server", async () => {
    using place = tempFolder();
    const [socket, disk] = [place.file("nbd.sock"), place.file("disk")];
    writeFileSync(disk, "");
    truncateSync(disk, 2 ** 40);
    await using server = start(["qemu-nbd", "-t", "-k", socket, "-f", "raw", disk]);
    await eventually(() => existsSync(socket), "qemu-nbd to listen");
    const uri = `nbd+unix:///?socket=${socket}`;
    await using client = start(convert(disks.fragmented, words, uri));
    expect((await client.ended()).status).toBe(1);
    server.process.kill();
  });
});

describe("the program's own words", () => {
  test("stream an IMAGE as raw, as without --hold", async () => {
    using place = tempFolder();
    const { fragmented } = disks;
    const run = ["run", `pipe=exec:cat > '${place.file("out")}'`, `spool=${place.path}`, "--hold"];
    const { status, stderr } = await runProgram([...run, fragmented.path]);
    expect(status, stderr).toBe(0);
    expect(
      readFileSync(place.file("out")).equals(readFileSync(`${fragmented.path}.raw`)),
    ).toBeTrue();
  });

  test("leave the sink alone if the IMAGE cannot be read to its end", async () => {
    using place = tempFolder();
    const sector = disks.fragmented.size / 512 - 1000;
    const broken = {
      driver: "blkdebug",
      "inject-error": [{ event: "none", iotype: "read", errno: 5, sector }],
      image: { driver: "file", filename: `${disks.fragmented.path}.raw` },
    };
    const image = `json:${JSON.stringify({ driver: "raw", file: broken })}`;
    const run = ["run", `pipe=exec:echo > '${place.file("out")}'`, `spool=${place.path}`, "--hold"];
    const { status, stderr } = await runProgram([...run, image]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/error while reading/);
    expect(readdirSync(place.path)).toEqual([]);
  });
});

function convert(disk: Image, words: readonly string[], target = "$nbd"): string[] {
  return ["qemu-img", "convert", "-f", "qcow2", "-O", ...words, disk.path, target];
}

async function convertIntoFile(
  words: readonly string[],
  disk: Image,
  path: string,
): Promise<string> {
  await command(["qemu-img", "convert", "-f", "qcow2", ...words, disk.path, path]);
  return path;
}

/** Has qemu-img make an image in a stream, which goes into a file. */
async function streamInto(
  path: string,
  options: readonly string[],
  words: readonly string[],
  disk: Image,
): Promise<Ended> {
  using spool = tempFolder();
  const run = ["run", `pipe=exec:cat > '${path}'`, `spool=${spool.path}`, "--hold", ...options];
  const captive = ["qemu-img", "convert", "-f", "qcow2", ...words, disk.path, "$nbd"];
  const ended = await runProgram([...run, "--", ...captive]);
  expect(ended.status, ended.stderr).toBe(0);
  expect(readdirSync(spool.path)).toEqual([]);
  return ended;
}

/** An image is in order, and has the disk. */
async function expectImage(
  path: string,
  { format, checked }: Pick<Format, "format" | "checked">,
  disk: Image,
): Promise<void> {
  if (checked) await command(["qemu-img", "check", "-q", "-f", format, path]);
  const compare = ["qemu-img", "compare", "-f", "qcow2", "-F", format, disk.path, path];
  // A warning before that would be of another length.
  expect(await command(compare)).toBe("Images are identical.\n");
}
