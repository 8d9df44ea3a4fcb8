import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { ROOT } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";
import { noTerminal, Terminal } from "../support/terminal.ts";

setDefaultTimeout(LIMIT);

const CHILD = `${process.execPath} ${join(import.meta.dir, "display.child.ts")}`;

describe.skipIf(noTerminal !== undefined)("the bar (needs tmux)", () => {
  test.each([
    ["process.exit()", "exit", 3],
    ["an error that nobody catches", "throw", 1],
    ["the end of all work", "end", 0],
  ])("is gone after %s", async (_, how, status) => {
    using terminal = new Terminal(`${CHILD} ${how}; echo status $?`, ROOT, 60, 20);
    await terminal.showing((rows) => rows.at(-1)?.includes("waiting for a client") === true, "it");
    await terminal.showing((rows) => rows.includes(`status ${status}`), "the end");
    expect(terminal.rows.join("\n")).not.toContain("waiting for a client");
    expect(terminal.lastScrolling).toBe(20);
  });
});
