import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { doubtfulImage, doubtfulSource } from "../../src/library/contents.ts";
import { command } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** A file that a tool makes of some bytes. */
async function made(name: string, line: string): Promise<string> {
  writeFileSync(folder.file("plain"), "some bytes of a disk");
  await command(["sh", "-c", `${line} > ${name}`], { cwd: folder.path });
  return folder.file(name);
}

describe.each(["gzip", "zstd", "xz", "bzip2", "lz4"])("what %s has made", (tool) => {
  test.skipIf(Bun.which(tool) === null)("is no disk", async () => {
    const path = await made(`disk.${tool}`, `${tool} -qc plain`);
    expect(doubtfulSource(path)).toEndWith(`write read=exec:'${tool} -dc ${path}'`);
    expect(doubtfulImage(path)).toEndWith(`decompress it with ${tool} -d first`);
  });
});

describe.each(["qcow2", "vmdk", "vhdx"])("an image of the format %s", (format) => {
  test("is no raw disk, but an image", async () => {
    const path = folder.file(`disk.${format}`);
    await command(["qemu-img", "create", "-q", "-f", format, path, "8M"]);
    expect(doubtfulSource(path)).toStartWith(`${path} is a ${format} image, and is read as it is`);
    expect(doubtfulImage(path)).toBeUndefined();
  });
});

test("a name that a shell would take apart is not put into a command line", async () => {
  await made("'a disk.gz'", "gzip -c plain");
  expect(doubtfulSource(folder.file("a disk.gz"))).toEndWith("write read=exec:'gzip -dc FILE'");
});

test.each(["plain", "empty", "missing", "folder"])("nothing is wrong with what is %s", (name) => {
  writeFileSync(folder.file("plain"), "some bytes of a disk");
  writeFileSync(folder.file("empty"), "");
  mkdirSync(folder.file("folder"), { recursive: true });
  expect(doubtfulSource(folder.file(name))).toBeUndefined();
  expect(doubtfulImage(folder.file(name))).toBeUndefined();
});
