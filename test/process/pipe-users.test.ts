import { afterEach, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { pipeUsers } from "../../src/process/pipe-users.ts";
import { eventually, type Running, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

const started: Running[] = [];
afterEach(async () => {
  for (const one of started.splice(0)) await one[Symbol.asyncDispose]();
});

/** A shell with its commands, which ends with the test. */
function shell(line: string, cwd: string): Running {
  const running = start(["sh", "-c", line], { cwd, group: true });
  started.push(running);
  return running;
}

function place() {
  const folder = tempFolder();
  const path = folder.file("x.fifo");
  mkfifo(path, 0o600);
  mkfifo(folder.file("other.fifo"), 0o600);
  const users = () => pipeUsers(statSync(path, { bigint: true })).users;
  return { folder, path, users, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

test("nobody has a new pipe", () => {
  using at = place();
  expect(at.users()).toEqual([]);
});

test.each([
  ["reading", "exec sleep 60 < x.fifo"],
  ["reading", 'exec sleep 60 < "$PWD/x.fifo"'],
  ["writing", "exec sleep 60 > x.fifo"],
  ["reading", "mkdir sub; cd sub; exec sleep 60 < ../x.fifo"],
] as const)("who waits in open(2) for %s is found, and goes on waiting: %s", async (end, line) => {
  using at = place();
  const { process: child } = shell(line, at.folder.path);
  await eventually(() => at.users().length > 0, "the process to be found");
  for (let i = 0; i < 3; i++) {
    expect(at.users()).toEqual([{ pid: child.pid, name: "sh", end, waiting: true }]);
  }
});

test("who waits for another pipe is not meant", async () => {
  using at = place();
  shell("exec sleep 60 < other.fifo", at.folder.path);
  const other = statSync(at.folder.file("other.fifo"), { bigint: true });
  await eventually(() => pipeUsers(other).users.length > 0, "the process to be found");
  expect(at.users()).toEqual([]);
});

test("who has the pipe open is found, with the end that it has", async () => {
  using at = place();
  const both = shell("exec sleep 60 <> x.fifo", at.folder.path);
  await eventually(() => at.users().some(({ name }) => name === "sleep"), "the first");
  const reader = shell("exec sleep 60 < x.fifo", at.folder.path);
  const writer = shell("exec sleep 60 > x.fifo", at.folder.path);
  await eventually(() => at.users().filter(({ name }) => name === "sleep").length === 3, "all");
  const found = at.users().map(({ pid, end, waiting }) => ({ pid, end, waiting }));
  for (const [running, end] of [
    [both, "both"],
    [reader, "reading"],
    [writer, "writing"],
  ] as const) {
    expect(found).toContainEqual({ pid: running.process.pid, end, waiting: false });
  }
});
