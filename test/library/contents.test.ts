import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import type { EndpointSpec } from "../../src/endpoint/spec.ts";
import { type Between, doubtOf } from "../../src/library/contents.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { command } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { told } from "../support/told.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** The start of a file that a line of the shell makes of some bytes; it is `$1`. */
async function startOf(name: string, line: string): Promise<Uint8Array> {
  writeFileSync(folder.file("plain"), pseudoRandom(10_000, 7));
  await command(["sh", "-c", line, "sh", name], { cwd: folder.path });
  return readFileSync(folder.file(name)).subarray(0, 512);
}

const PIPE: EndpointSpec = { kind: "descriptor", name: "standard input", fd: 0 };
const path = (name: string): EndpointSpec => ({ kind: "path", path: name });

/** Streams between all kinds of ends, whose bytes are to be those of a disk. */
const IMPORT: Between = { direction: "read", spec: PIPE, image: "disk.qcow2" };
const READ: Between = { direction: "read", spec: PIPE };
const EXPORT: Between = { direction: "write", spec: PIPE, image: "disk.qcow2" };
const WRITTEN: Between = { direction: "write", spec: PIPE };
const ALL = [IMPORT, READ, EXPORT, WRITTEN];

describe.each([
  ["zstd", "zstd -qc plain", "zstd -dc"],
  ["gzip", "gzip -c plain", "gzip -dc"],
  ["xz", "xz -c plain", "xz -dc"],
  ["bzip2", "bzip2 -c plain", "bzip2 -dc"],
  ["lz4", "lz4 -qc plain", "lz4 -dc"],
  ["lzop", "lzop -c plain", "lzop -dc"],
  ["zip", "zip -q - plain", "unzip -p"],
  ["7z", "7z a -bso0 $1 plain && cat $1", "7z x -so"],
])("what %s has made", (tool, line, by) => {
  const missing = Bun.which(tool) === null;
  test.skipIf(missing)(`is no disk, wherever it comes from (needs ${tool})`, async () => {
    const start = await startOf(`disk.${tool}`, `${line} > $1.out; mv $1.out $1`);
    for (const between of ALL) {
      const doubt = told(doubtOf(start, between));
      expect(doubt).toStartWith(`the stream begins like what ${tool} has compressed, `);
      expect(doubt).toEndWith(`(${by})`);
    }
    const file = { ...IMPORT, spec: path("disk.z") };
    expect(told(doubtOf(start, file))).toBe(
      `disk.z begins like what ${tool} has compressed, and is taken as it is: ` +
        `for the disk in it, write read=exec:'${by} disk.z'`,
    );
    const odd = { ...IMPORT, spec: path("a disk.z") };
    expect(told(doubtOf(start, odd))).toEndWith(`write read=exec:'${by} FILE'`);
  });
});

describe.each(["qcow2", "qcow", "qed", "vhdx", "vdi", "parallels"])("an image, %s,", (format) => {
  const make = () => startOf(`disk.${format}`, `qemu-img create -q -f ${format} $1 8M`);

  test("is no raw disk, wherever it comes from", async () => {
    const start = await make();
    for (const between of ALL) {
      expect(told(doubtOf(start, between))).toStartWith(
        `the stream begins like an image of the format ${format}, and is taken as it is: `,
      );
    }
  });

  test("is what a client may want that looks for formats", async () => {
    const start = await make();
    const doubted = (command: string | string[]) =>
      doubtOf(start, { ...READ, command }) !== undefined;
    expect(doubted(["qemu-img", "convert", "$nbd", "-O", "raw", "disk.raw"])).toBeFalse();
    expect(doubted(["qemu-img", "convert", "-f", format, "$nbd", "disk.raw"])).toBeFalse();
    expect(doubted("qemu-img convert -f raw $nbd -O qcow2 disk.qcow2")).toBeTrue();
    expect(doubted("qemu-img info --image-opts driver=raw,file=$nbd")).toBeTrue();
    expect(doubted(["nbdcopy", "$uri", "disk.raw"])).toBeTrue();
    const written = { ...WRITTEN, command: ["qemu-img", "convert", "x", "$nbd"] };
    expect(told(doubtOf(start, written))).toBeString();
  });
});

describe.each([
  ["vmdk", "qemu-img create -q -f vmdk -o subformat=streamOptimized $1 8M"],
  ["vpc", "qemu-img create -q -f vpc $1 8M"],
  ["tar (perhaps an OVA)", "tar -cf $1 plain"],
])("what programs stream on purpose, %s,", (format, line) => {
  test("is doubted only where qemu-img has it for a raw disk by words of ours", async () => {
    const start = await startOf("disk.streamed", line);
    expect(told(doubtOf(start, IMPORT))).toContain(`an image of the format ${format}, `);
    expect(told(doubtOf(start, EXPORT))).toContain(`an image of the format ${format}, `);
    expect(doubtOf(start, READ)).toBeUndefined();
    expect(doubtOf(start, WRITTEN)).toBeUndefined();
  });
});

describe("nothing is wrong with", () => {
  const MBR = Buffer.alloc(512);
  MBR.set([0x55, 0xaa], 510);

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array(0)],
    ["zeroes", new Uint8Array(512)],
    ["a part of a name", Buffer.from("QFI")],
    ["noise", pseudoRandom(512, 11)],
    ["a disk with partitions", MBR],
    ["a disk that is encrypted", Buffer.from("LUKS\xba\xbe\0\x01aes\0", "latin1")],
  ])("%s", (_, start) => {
    for (const between of ALL) expect(doubtOf(start, between)).toBeUndefined();
  });

  test("a fixed VHD, which ends with its name and does not begin with it", async () => {
    const start = await startOf("fixed.vhd", "qemu-img create -q -f vpc -o subformat=fixed $1 8M");
    for (const between of ALL) expect(doubtOf(start, between)).toBeUndefined();
  });
});
