import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { withBlocked } from "../../ffi/signal.ts";
import { LIMIT } from "../support/limit.ts";
import { command } from "../support/program.ts";

setDefaultTimeout(LIMIT);

test("signals that were ignored when a program was started are told, and can be reset", async () => {
  const script = join(import.meta.dir, "signal.child.ts");
  const told = await command(["env", "--ignore-signal=CHLD,INT", process.execPath, script]);
  expect(JSON.parse(told)).toEqual({
    before: ["SIGINT", "SIGCHLD"],
    after: ["SIGINT"],
  });
});

test("a signal is blocked in this thread while the work lasts, and as it was after it", () => {
  const blocked = () => {
    const status = readFileSync("/proc/thread-self/status", "latin1");
    const mask = BigInt(`0x${/^SigBlk:\s*(\S+)/m.exec(status)?.[1]}`);
    return (mask & (1n << BigInt(constants.signals.SIGTTOU - 1))) !== 0n;
  };
  expect(withBlocked("SIGTTOU", blocked)).toBe(true);
  expect(blocked()).toBe(false);
  expect(withBlocked("SIGTTOU", () => withBlocked("SIGTTOU", () => {}) ?? blocked())).toBe(true);
  const fails = () => {
    throw new Error("the work fails");
  };
  expect(() => withBlocked("SIGTTOU", fails)).toThrow("the work fails");
  expect(blocked()).toBe(false);
});
