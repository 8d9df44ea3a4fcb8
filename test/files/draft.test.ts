import { expect, test } from "bun:test";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { Draft } from "../../src/files/draft.ts";
import { thrownBy } from "../ffi/descriptors.ts";
import { tempFolder } from "../support/temp.ts";

test("a file has its name only when it is published, with all that is in it", async () => {
  using folder = tempFolder();
  writeFileSync(folder.file("x"), "old");
  const draft = new Draft(folder.file("x"));
  draft.write("new");
  draft.write("er");
  await draft.sync();
  expect(readFileSync(folder.file("x"), "latin1")).toBe("old");
  const id = draft.publish();
  expect(readFileSync(folder.file("x"), "latin1")).toBe("newer");
  expect(readdirSync(folder.path)).toEqual(["x"]);
  id.remove();
  expect(readdirSync(folder.path)).toEqual([]);
});

test("a file that is discarded leaves nothing, and what was there as it was", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("x"), "old");
  const draft = new Draft(folder.file("x"));
  draft.write("new");
  draft.discard();
  expect(readdirSync(folder.path)).toEqual(["x"]);
  expect(readFileSync(folder.file("x"), "latin1")).toBe("old");
});

test("a symbolic link is replaced, and not what it leads to", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("real"), "precious");
  symlinkSync("real", folder.file("x"));
  const draft = new Draft(folder.file("x"));
  draft.write("new");
  draft.publish();
  expect(lstatSync(folder.file("x")).isFile()).toBeTrue();
  expect(readFileSync(folder.file("real"), "latin1")).toBe("precious");
});

test.each([0o022, 0o077])("a file has the permissions that umask %o leaves", (mask) => {
  using folder = tempFolder();
  const before = process.umask(mask);
  try {
    const draft = new Draft(folder.file("x"));
    draft.publish();
    expect(lstatSync(folder.file("x")).mode & 0o777).toBe(0o666 & ~mask);
  } finally {
    process.umask(before);
  }
});

test("a name that cannot be had is an error, after which nothing is left", () => {
  using folder = tempFolder();
  mkdirSync(folder.file("x"));
  const draft = new Draft(folder.file("x"));
  draft.write("new");
  expect(thrownBy(() => draft.publish())).toMatchObject({ code: "EISDIR" });
  draft.discard();
  expect(readdirSync(folder.path)).toEqual(["x"]);
});
