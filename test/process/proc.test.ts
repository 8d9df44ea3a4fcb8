import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { descendants, hasMark, procProblem, statOf } from "../../src/process/proc.ts";
import { LIMIT } from "../support/limit.ts";
import { command, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** A shell that waits, so that the test can look at its tree; `using` kills what it has found. */
function startTree(script: string) {
  const shell = Bun.spawn(["sh", "-c", script], { stdio: ["ignore", "ignore", "ignore"] });
  return {
    pid: shell.pid,
    shell,
    [Symbol.dispose]() {
      for (const pid of [...descendants([shell.pid]), shell.pid]) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It has ended already.
        }
      }
    },
  };
}

/** The command lines of processes, in the order of their ids. */
function commandLines(pids: number[]): string[] {
  return pids
    .toSorted((a, b) => a - b)
    .map((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim());
}

test("a process has its mark in the middle of execve(2), too, where it shows no environment", async () => {
  // Many words: the kernel takes long to lay them out in the new memory.
  const again = 'n=$1; shift; [ $n -gt 0 ] && exec /bin/sh -c "$0" "$0" $((n - 1)) "$@"';
  const words = ["/bin/sh", "-c", again, again, "30", ...Array(20_000).fill("word")];
  const chain = Bun.spawn(words, {
    env: { MARKS: "other this" },
    stdio: ["ignore", "ignore", "ignore"],
  });
  const looks: boolean[] = [];
  const isRunning = () => !["Z", "X"].includes(statOf(chain.pid)?.[0] ?? "X");
  for (;;) {
    const found = hasMark(chain.pid, "MARKS", "this");
    if (!isRunning()) break;
    looks.push(found);
  }
  await chain.exited;
  expect(looks.length).toBeGreaterThan(0);
  expect(looks.filter((found) => !found)).toEqual([]);
});

describe("procProblem", () => {
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
});

describe("descendants", () => {
  test("all children of a process are found, and not the process itself", async () => {
    using tree = startTree("sleep 30 & sleep 31 & wait");
    // A child is a copy of the shell until it has become sleep.
    const sleeps = () =>
      commandLines(descendants([tree.pid])).filter((line) => line.startsWith("sleep"));
    await eventually(() => sleeps().length === 2, "two children");
    expect(sleeps()).toEqual(["sleep 30", "sleep 31"]);
    expect(descendants([tree.pid])).toHaveLength(2);
    expect(descendants([process.pid])).toEqual(
      expect.arrayContaining([tree.pid, ...descendants([tree.pid])]),
    );
  });

  test("grandchildren are found after their parents", async () => {
    using tree = startTree("sh -c 'sleep 30 & wait' & wait");
    await eventually(() => descendants([tree.pid]).length === 2, "a child and a grandchild");
    const [child, grandchild] = descendants([tree.pid]) as [number, number];
    expect(descendants([child])).toEqual([grandchild]);
    expect(descendants([grandchild])).toEqual([]);
  });

  test("a process that has ended is not found even if nobody has asked how", async () => {
    // The shell becomes a sleep, which never waits for its child.
    using tree = startTree("sleep 30 & exec sleep 31");
    const lines = () => commandLines([tree.pid, ...descendants([tree.pid])]);
    await eventually(() => lines().join() === "sleep 31,sleep 30", "both sleeps");
    const [child] = descendants([tree.pid]) as [number];
    process.kill(child, "SIGKILL");
    const state = () => readFileSync(`/proc/${child}/status`, "latin1");
    await eventually(() => /^State:\s*Z/m.test(state()), "the child to end");
    expect(descendants([tree.pid])).toEqual([]);
  });

  test("a name with spaces and parentheses hides nobody", async () => {
    using tree = startTree("printf 'x) R 1 (' > /proc/$$/comm; sleep 30 & wait");
    const name = () => readFileSync(`/proc/${tree.pid}/comm`, "latin1");
    await eventually(() => name() === "x) R 1 (\n", "the new name");
    await eventually(() => descendants([tree.pid]).length === 1, "a child");
    expect(descendants([process.pid])).toContain(tree.pid);
  });

  test("a process that does not exist has no descendants", () => {
    expect(descendants([2 ** 30])).toEqual([]);
  });

  test("a signal reaches all descendants, and not the process that sends it", async () => {
    const script = join(import.meta.dir, "signal.child.ts");
    expect(JSON.parse(await command([process.execPath, script]))).toEqual({
      before: 3,
      after: 0,
      signal: "SIGTERM",
    });
  });
});
