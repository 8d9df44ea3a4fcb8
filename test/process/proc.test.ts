import { expect, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { procProblem } from "../../src/process/proc.ts";
import { tempFolder } from "../support/temp.ts";

test("nothing is wrong with the real one", () => {
  expect(procProblem()).toBeUndefined();
});

test("one that is not mounted, belongs to others, or does not show this process, is told", () => {
  using folder = tempFolder();
  expect(procProblem(folder.path)).toMatch(/^ENOENT.*self/);
  symlinkSync("1000000000", folder.file("self"));
  expect(procProblem(folder.path)).toBe(
    `it is that of another PID namespace, where this process is 1000000000, not ${process.pid}`,
  );
});

test("one with a part of what is needed is told", () => {
  using folder = tempFolder();
  const own = String(process.pid);
  symlinkSync(own, folder.file("self"));
  expect(procProblem(folder.path)).toBe("it does not list this process");
  mkdirSync(folder.file(own));
  writeFileSync(folder.file(`${own}/stat`), "");
  expect(procProblem(folder.path)).toMatch(/^ENOENT.*environ/);
  writeFileSync(folder.file(`${own}/environ`), "");
  expect(procProblem(folder.path)).toMatch(/^ENOENT.*fd/);
});
