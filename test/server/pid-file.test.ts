import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { UserError } from "../../src/errors.ts";
import { PidFile } from "../../src/server/pid-file.ts";
import { tempFolder } from "../support/temp.ts";

test("the file holds the process id in one line until it is removed", () => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  expect(readFileSync(folder.file("pid"), "latin1")).toBe(`${process.pid}\n`);
  file.remove();
  expect(existsSync(folder.file("pid"))).toBeFalse();
});

test("what an earlier run has left behind is replaced", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("pid"), "123456789123456789\n");
  new PidFile(folder.file("pid"));
  expect(readFileSync(folder.file("pid"), "latin1")).toBe(`${process.pid}\n`);
});

test("a file that is gone already is no trouble", () => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  file.remove();
  expect(() => file.remove()).not.toThrow();
});

test.each(["missing/pid", "folder"])("a file that cannot be written is an error: %s", (name) => {
  using folder = tempFolder();
  mkdirSync(folder.file("folder"));
  let thrown: unknown;
  try {
    new PidFile(folder.file(name));
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(UserError);
  expect(thrown).toMatchObject({ code: "ERR_FILE", exitStatus: 3 });
  const { message } = thrown as UserError;
  expect(message).toStartWith("cannot write --pidfile: ");
  expect(message).toContain(folder.file(name));
});
