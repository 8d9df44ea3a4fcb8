import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  foregroundGroup,
  isInForeground,
  isTerminal,
  ownGroup,
  setForegroundGroup,
  terminalSettings,
  windowSize,
} from "../../ffi/terminal.ts";
import { eventually } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";
import { noTerminal, Terminal } from "../support/terminal.ts";
import { Descriptors } from "./descriptors.ts";

setDefaultTimeout(LIMIT);

test("what is no terminal has no size, and no foreground", () => {
  using descriptors = new Descriptors();
  const { read } = descriptors.pipe();
  for (const fd of [read, -1]) {
    expect(isTerminal(fd)).toBe(false);
    expect(windowSize(fd)).toBeUndefined();
    expect(isInForeground(fd)).toBe(false);
    expect(foregroundGroup(fd)).toBeUndefined();
    expect(terminalSettings(fd)).toBeUndefined();
    expect(() => setForegroundGroup(fd, ownGroup())).toThrow(/^ioctl terminal: /);
  }
});

test.skipIf(noTerminal !== undefined).each([
  ["the foreground", "", true],
  ["the background", "& wait", false],
])("a terminal tells its size and who is in %s (needs tmux)", async (_, behind, foreground) => {
  using folder = tempFolder();
  const child = `${process.execPath} ${join(import.meta.dir, "terminal.child.ts")} told`;
  using terminal = new Terminal(`set -m; ${child} ${behind}; touch done`, folder.path, 71, 13);
  await eventually(() => existsSync(folder.file("done")), "the child to end");
  const told = JSON.parse(readFileSync(folder.file("told"), "utf8"));
  expect(told).toEqual({ terminal: true, size: { rows: 13, columns: 71 }, foreground });
  void terminal;
});
