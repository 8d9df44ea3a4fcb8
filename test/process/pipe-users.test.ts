import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkfifo } from "../../ffi/pipe.ts";
import { pipeUsers } from "../../src/process/pipe-users.ts";
import { eventually, type Running, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

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
  const users = () => pipeUsers(path).users;
  return { folder, path, users, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

test("nobody has a new pipe", () => {
  using at = place();
  expect(at.users()).toEqual([]);
});

test("a process that waits in open(2) is found, and goes on waiting", async () => {
  using at = place();
  const { process: child } = shell("exec sleep 60 < x.fifo", at.folder.path);
  const waits = () => pipeUsers(at.path).waiting.some(({ pid }) => pid === child.pid);
  await eventually(waits, "the process to be found");
  for (let i = 0; i < 3; i++) expect(waits()).toBeTrue();
  expect(at.users()).toEqual([]);
});

test("who has the pipe open is found, with the end that it has", async () => {
  using at = place();
  const both = shell("exec sleep 60 <> x.fifo", at.folder.path);
  await eventually(() => at.users().some(({ name }) => name === "sleep"), "the first");
  const reader = shell("exec sleep 60 < x.fifo", at.folder.path);
  const writer = shell("exec sleep 60 > x.fifo", at.folder.path);
  await eventually(() => at.users().filter(({ name }) => name === "sleep").length === 3, "all");
  const found = at.users().map(({ pid, end }) => ({ pid, end }));
  for (const [running, end] of [
    [both, "both"],
    [reader, "reading"],
    [writer, "writing"],
  ] as const) {
    expect(found).toContainEqual({ pid: running.process.pid, end });
  }
});
