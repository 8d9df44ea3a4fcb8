import { expect, setDefaultTimeout, test } from "bun:test";
import { Signals, signalStatus } from "../../src/server/signals.ts";
import { eventually } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

test("a signal's status is 128 and its number", () => {
  expect(signalStatus("SIGINT")).toBe(130);
  expect(signalStatus("SIGTERM")).toBe(143);
  expect(signalStatus(1)).toBe(129);
});

test("the first signal is remembered, and listeners hear all until they have enough", async () => {
  const signals = new Signals();
  try {
    const heard: string[] = [];
    const unsubscribe = signals.subscribe((signal) => heard.push(signal));
    expect(signals.caught).toBeUndefined();
    process.kill(process.pid, "SIGHUP");
    await eventually(() => heard.length === 1, "SIGHUP");
    process.kill(process.pid, "SIGTERM");
    await eventually(() => heard.length === 2, "SIGTERM");
    unsubscribe();
    const others: string[] = [];
    signals.subscribe((signal) => others.push(signal));
    process.kill(process.pid, "SIGINT");
    await eventually(() => others.length === 1, "SIGINT");
    expect(heard).toEqual(["SIGHUP", "SIGTERM"]);
    expect(signals.caught).toBe("SIGHUP");
  } finally {
    signals.release();
  }
});

test("released signals have no handlers left", () => {
  const before = process.listenerCount("SIGTERM");
  const signals = new Signals();
  expect(process.listenerCount("SIGTERM")).toBe(before + 1);
  signals.release();
  expect(process.listenerCount("SIGTERM")).toBe(before);
});
