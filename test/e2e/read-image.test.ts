/** `run read=SOURCE IMAGE`: qemu-img makes an image of what comes out of the source. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { copied, digestDisk } from "../support/copied.ts";
import { digestSectors, holedImage, type Image, rawImage } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command, type Ended, eventually, runProgram, startProgram } from "../support/program.ts";
import { digestFile } from "../support/reader.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const images = tempFolder();
afterAll(() => images[Symbol.dispose]());

let disk: Image;
let holed: Image;
beforeAll(async () => {
  disk = await rawImage(images.file("disk.bin"), 3 * MiB + 77);
  holed = await holedImage(images.file("holed.bin"));
});

describe("an IMAGE", () => {
  test.each(["a FIFO", "standard input"] as const)("is made from %s with size=", async (feed) => {
    using folder = tempFolder();
    for (const image of [disk, holed]) {
      const words = [`size=${image.size}`, "disk.qcow2"];
      expect(await copied(feed, image.path, words, folder.path)).toMatchObject({ status: 0 });
      expect(await formatOf(folder.file("disk.qcow2"))).toBe("qcow2");
      expect(await digestDisk(folder.file("disk.qcow2"), "qcow2")).toBe(await digestSectors(image));
      expect(readdirSync(folder.path).toSorted()).toEqual(["disk.qcow2", "disk.qcow2.disk"]);
    }
  });

  test.each([
    { image: "disk.qcow2", format: "qcow2" },
    { image: "disk.qcow", format: "qcow" },
    { image: "disk.qed", format: "qed" },
    { image: "disk.vmdk", format: "vmdk" },
    { image: "disk.vdi", format: "vdi" },
    { image: "disk.vhdx", format: "vhdx" },
    { image: "disk.vhd", format: "vpc" },
    { image: "disk.vpc", format: "vpc" },
    { image: "disk.raw", format: "raw" },
    { image: "disk.img", format: "raw" },
    { image: "a disk.of mine.QCOW2", format: "qcow2" },
  ])("called $image becomes $format", async ({ image, format }) => {
    using folder = tempFolder();
    expect(await make([image], folder.path)).toMatchObject({ status: 0 });
    const path = folder.file(image);
    if (format !== "raw") expect(await formatOf(path)).toBe(format);
    // vpc counts in cylinders, and makes the disk a little longer.
    const compare = ["qemu-img", "compare", "-f", "raw", "-F", format, disk.path, path];
    expect(await command(compare)).toContain("identical");
  });

  test.each([
    { how: "without an extension", words: ["-O", "qcow2", "disk"], format: "qcow2" },
    { how: "with another extension", words: ["-O", "vmdk", "disk.qcow2"], format: "vmdk" },
    { how: "before it", words: ["disk.xyz", "--output-format=vdi"], format: "vdi" },
  ])("has the format of -O, $how", async ({ words, format }) => {
    using folder = tempFolder();
    expect(await make(words, folder.path)).toMatchObject({ status: 0 });
    const [image = ""] = readdirSync(folder.path);
    expect(await formatOf(folder.file(image))).toBe(format);
    expect(await digestDisk(folder.file(image), format)).toBe(await digestSectors(disk));
  });

  test("is replaced when it is there", async () => {
    using folder = tempFolder();
    const other = await rawImage(folder.file("disk.img"), 5 * MiB);
    expect(await make(["disk.img"], folder.path)).toMatchObject({ status: 0 });
    expect(await digestFile(other.path)).toBe(await digestSectors(disk));
  });

  test("of a format that qemu-img does not know fails with its status", async () => {
    using folder = tempFolder();
    const ended = await make(["-O", "bogus", "disk"], folder.path);
    expect(ended).toMatchObject({ status: 1, stderr: expect.stringContaining("'bogus'") });
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("fails with a source that fails, and whoever looks sees it", async () => {
    using folder = tempFolder();
    const source = `read=exec:cat '${disk.path}'; exit 3`;
    const words = ["run", source, `size=${disk.size}`, "disk.qcow2"];
    const { status, stderr } = await runProgram(words, { cwd: folder.path });
    expect(status).toBe(1);
    expect(stderr).toMatch(/qemu-img: error while reading .*Input\/output error/);
    expect(stderr).toMatch(/truncated: exec:.* failed with status 3, with the stream at byte/);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("has its name only when it is complete", async () => {
    using folder = tempFolder();
    const wait = "until [ -e go ]; do sleep 0.02; done";
    const source = `read=exec:head -c 1M '${disk.path}'; ${wait}; tail -c +1048577 '${disk.path}'`;
    const words = ["run", source, `size=${disk.size}`, "disk.qcow2"];
    await using program = startProgram(words, { cwd: folder.path });
    const hidden = () =>
      readdirSync(folder.path).find((name) => name.startsWith(".nbd-streaming-"));
    await eventually(() => hidden() !== undefined, "the folder");
    await eventually(() => existsSync(folder.file(`${hidden()}/disk.qcow2`)), "the image");
    expect(existsSync(folder.file("disk.qcow2"))).toBe(false);
    writeFileSync(folder.file("go"), "");
    expect((await program.ended()).status).toBe(0);
    expect(readdirSync(folder.path).toSorted()).toEqual(["disk.qcow2", "go"]);
    expect(await digestDisk(folder.file("disk.qcow2"), "qcow2")).toBe(await digestSectors(disk));
  });

  test("is not left behind by a signal", async () => {
    using folder = tempFolder();
    const source = `read=exec:head -c 1M '${disk.path}'; exec sleep 60`;
    const words = ["run", source, `size=${disk.size}`, "disk.qcow2"];
    await using program = startProgram(words, { cwd: folder.path });
    await eventually(() => readdirSync(folder.path).length > 0, "the folder");
    program.process.kill("SIGTERM");
    expect((await program.ended()).status).toBe(143);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("is made in the place that a symbolic link leads to, and the link stays", async () => {
    using folder = tempFolder();
    mkdirSync(folder.file("images"));
    writeFileSync(folder.file("images/real.img"), "");
    symlinkSync("images/real.img", folder.file("disk.img"));
    symlinkSync("images/missing.img", folder.file("new.img"));
    for (const [image, real] of [
      ["disk.img", "images/real.img"],
      ["new.img", "images/missing.img"],
    ] as const) {
      expect(await make([image], folder.path)).toMatchObject({ status: 0 });
      expect(readlinkSync(folder.file(image))).toBe(real);
      expect(lstatSync(folder.file(real)).isFile()).toBeTrue();
      expect(await digestFile(folder.file(real))).toBe(await digestSectors(disk));
    }
    expect(readdirSync(folder.path).toSorted()).toEqual(["disk.img", "images", "new.img"]);
    expect(readdirSync(folder.file("images")).toSorted()).toEqual(["missing.img", "real.img"]);
  });

  test.each([
    "no/such/folder/disk.img",
    "nbd:unix:/no/such/socket",
    "no-such-protocol:disk.img",
    "disk/",
  ])("at %s is what qemu-img says of it", async (image) => {
    using folder = tempFolder();
    const { status, stderr } = await make(["-O", "raw", image], folder.path);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qemu-img: /m);
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

describe("before anything is made,", () => {
  test.each([
    { what: "an unknown extension", words: ["disk.xyz"], says: "does not show in its name" },
    { what: "no extension", words: ["disk"], says: "the format of disk does not show" },
    { what: "a name that is all extension", words: [".qcow2"], says: "give -O" },
    { what: "two images", words: ["a.qcow2", "b.qcow2"], says: "only one IMAGE" },
    { what: "-f", words: ["-f", "raw", "disk.qcow2"], says: "-f needs pipe=" },
  ])("$what is wrong usage", async ({ words, says }) => {
    using folder = tempFolder();
    expectUsage(await make(words, folder.path), says);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test.each([
    { what: "a pipe", line: 'cat "$FILE" | program run read=- disk.qcow2' },
    { what: "a FIFO", line: "program run read=source.fifo disk.qcow2" },
    { what: "a command", line: "program run read=\"exec:cat '$FILE'; touch traces\" disk.qcow2" },
    { what: "a device without an end", line: "program run read=/dev/zero disk.qcow2" },
  ])("a missing size= is wrong usage when the source is $what", async ({ line }) => {
    using folder = tempFolder();
    const ended = await shell(line, [], { cwd: folder.path, env: { FILE: disk.path } });
    expectUsage(ended, "needs size=: the length of the source is not known");
    expect(existsSync(folder.file("disk.qcow2"))).toBeFalse();
    expect(existsSync(folder.file("source.fifo"))).toBeFalse();
  });

  test.each([
    { how: "its name", line: "program run read=same.img same.img" },
    { how: "its name, when there is nothing yet", line: "program run read=x.img ./x.img" },
    { how: "another name of it", line: "program run read=./same.img same.img" },
    { how: "its whole path", line: 'program run read="$PWD/same.img" same.img' },
    { how: "a symbolic link", line: "program run read=link.img same.img" },
    { how: "a hard link", line: "program run read=same.img hard.img" },
    { how: "standard input", line: "program run read=- same.img < same.img" },
  ])("the source as the IMAGE is wrong usage, and stays as it is: by $how", async ({ line }) => {
    using folder = tempFolder();
    const same = await rawImage(folder.file("same.img"), 100_000);
    symlinkSync("same.img", folder.file("link.img"));
    linkSync(same.path, folder.file("hard.img"));
    expectUsage(await shell(line, [], { cwd: folder.path }), "the same file");
    expect(await digestFile(same.path)).toBe(same.sha256);
  });
});

/** Runs the shortcut with the disk as a file. */
function make(words: readonly string[], cwd: string): Promise<Ended> {
  return runProgram(["run", `read=${disk.path}`, ...words], { cwd });
}

function expectUsage(ended: Ended, says: string): void {
  expect(ended).toMatchObject({ status: 2, stdout: "" });
  expect(ended.stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
  expect(ended.stderr).toContain(says);
}

async function formatOf(image: string): Promise<string> {
  const info = await command(["qemu-img", "info", "--output=json", image]);
  return (JSON.parse(info) as { format: string }).format;
}
