import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { reap } from "../../ffi/spawn.ts";
import { Child, signalName } from "../../src/process/child.ts";
import { send } from "../../src/process/proc.ts";
import { LIMIT } from "../support/limit.ts";
import { bounded, command } from "../support/program.ts";

setDefaultTimeout(LIMIT);

function shell(words: string): Child {
  return new Child({
    file: "/bin/sh",
    argv: ["sh", "-c", words],
    env: { PATH: process.env["PATH"] },
    stdio: ["null", "null", "null"],
    place: "group",
  });
}

test.each([
  ["exit 0", 0, null],
  ["exit 7", 7, null],
  ["kill -TERM $$", null, "SIGTERM"],
  ["kill -40 $$", null, 40],
] as const)("%p: status %p, signal %p", async (words, exitCode, signalCode) => {
  const child = shell(words);
  expect(child.running).toBe(true);
  await bounded(child.exited, "its end");
  expect(child).toMatchObject({ exitCode, signalCode, running: false });
  child.release();
});

test("its end is heard of without its signal, too", async () => {
  const child = shell("sleep 0.1");
  // As a program does that knows nothing of us.
  process.removeAllListeners("SIGCHLD");
  await bounded(child.exited, "its end");
  child.release();
});

test("a stop is told with the signal that has done it", async () => {
  const child = shell("kill -TTIN $$; exit 3");
  const stop = await bounded(
    new Promise((resolve) => {
      child.onStop = resolve;
    }),
    "the stop",
  );
  expect(stop).toBe("SIGTTIN");
  child.kill("SIGCONT");
  await bounded(child.exited, "its end");
  expect(child.exitCode).toBe(3);
  child.release();
});

test("until it is released, nobody else can get its process id", async () => {
  const child = shell("exit 0");
  await bounded(child.exited, "its end");
  expect(readFileSync(`/proc/${child.pid}/status`, "latin1")).toMatch(/^State:\s*Z/m);
  expect(child.ownsPid).toBe(true);
  child.release();
  expect(child.ownsPid).toBe(false);
  expect(existsSync(`/proc/${child.pid}`)).toBe(false);
});

test("one that is released before its end leaves no zombie either", async () => {
  const child = shell("sleep 0.1");
  child.release();
  expect(child.ownsPid).toBe(true);
  await bounded(child.exited, "its end");
  expect(existsSync(`/proc/${child.pid}`)).toBe(false);
});

test("one that somebody else has waited for has not succeeded", async () => {
  const child = shell("exit 0");
  // Without a turn of the event loop, in which it would be heard of.
  for (let i = 0; i < 1000; i++) {
    if (/^State:\s*Z/m.test(readFileSync(`/proc/${child.pid}/status`, "latin1"))) break;
    Bun.sleepSync(10);
  }
  reap(child.pid);
  await bounded(child.exited, "its end");
  expect(child).toMatchObject({ exitCode: 255, signalCode: null, ownsPid: false });
});

test("how children end is known where SIGCHLD was ignored, to Bun as well", async () => {
  const script = join(import.meta.dir, "child.child.ts");
  const told = await command(["env", "--ignore-signal=CHLD", process.execPath, script]);
  expect(told).toBe("7 8\n");
});

test("a signal to nobody is no error, and is told", async () => {
  const child = shell("exec sleep 60");
  expect(send(-child.pid, "SIGKILL")).toBe(true);
  await bounded(child.exited, "its end");
  child.release();
  expect(send(-child.pid, "SIGKILL")).toBe(false);
  expect(send(1, 0)).toBe(true);
});

test("signals have the names that are used, or their numbers", () => {
  expect([2, 6, 29, 64].map(signalName)).toEqual(["SIGINT", "SIGABRT", "SIGIO", 64]);
});
