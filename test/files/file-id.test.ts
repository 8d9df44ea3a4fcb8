import { expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { FileId } from "../../src/files/file-id.ts";
import { tempFolder } from "../support/temp.ts";
import { thrownBy } from "../ffi/descriptors.ts";

test("a file is there until its name is gone, or another file's", () => {
  using folder = tempFolder();
  const path = folder.file("file");
  writeFileSync(path, "");
  // Keeps the inode number from being given to the next one.
  linkSync(path, folder.file("other name"));
  const id = new FileId(path);
  expect(id.isThere).toBeTrue();
  unlinkSync(path);
  expect(id.isThere).toBeFalse();
  writeFileSync(path, "somebody else's");
  expect(id.isThere).toBeFalse();
  id.remove();
  expect(readFileSync(path, "latin1")).toBe("somebody else's");
});

test("a file is removed under its name, and may be gone", () => {
  using folder = tempFolder();
  const path = folder.file("file");
  writeFileSync(path, "");
  const id = new FileId(path);
  id.remove();
  expect(existsSync(path)).toBeFalse();
  id.remove();
});

test("of a symbolic link it is the link, and what it leads to stays", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("file"), "precious");
  symlinkSync("file", folder.file("link"));
  const id = new FileId(folder.file("link"));
  id.remove();
  expect(lstatSync(folder.file("link"), { throwIfNoEntry: false })).toBeUndefined();
  expect(readFileSync(folder.file("file"), "latin1")).toBe("precious");
});

test("a folder is removed only when it is empty", () => {
  using folder = tempFolder();
  const path = folder.file("folder");
  mkdirSync(path);
  const id = new FileId(path);
  writeFileSync(`${path}/file`, "precious");
  id.remove();
  expect(readFileSync(`${path}/file`, "latin1")).toBe("precious");
  unlinkSync(`${path}/file`);
  id.remove();
  expect(existsSync(path)).toBeFalse();
});

test("a relative name means the same after a change of the working directory", () => {
  using folder = tempFolder();
  const before = process.cwd();
  process.chdir(folder.path);
  try {
    writeFileSync("file", "");
    const id = new FileId("file");
    process.chdir(before);
    expect(id.isThere).toBeTrue();
    id.remove();
    expect(existsSync(folder.file("file"))).toBeFalse();
  } finally {
    process.chdir(before);
  }
});

test("what has been renamed is not there", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("file"), "");
  const id = new FileId(folder.file("file"));
  renameSync(folder.file("file"), folder.file("moved"));
  id.remove();
  expect(existsSync(folder.file("moved"))).toBeTrue();
});

test("there is no id of nothing", () => {
  using folder = tempFolder();
  expect(thrownBy(() => new FileId(folder.file("missing")))).toMatchObject({ code: "ENOENT" });
});
