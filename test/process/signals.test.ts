import { expect, setDefaultTimeout, test } from "bun:test";
import { resetSignal } from "../../ffi/signal.ts";
import { catchSignals, signalStatus } from "../../src/process/signals.ts";
import { eventually } from "../support/program.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

test("a signal's status is 128 and its number", () => {
  expect(signalStatus("SIGINT")).toBe(130);
  expect(signalStatus("SIGTERM")).toBe(143);
  expect(signalStatus(1)).toBe(129);
});

test("each signal is heard while they are caught", async () => {
  const heard: string[] = [];
  // Whoever has started the tests may have them ignored, as a shell does in the background: they would stay so.
  for (const signal of ["SIGHUP", "SIGTERM", "SIGINT"] as const) {
    if (process.listenerCount(signal) === 0) resetSignal(signal);
  }
  const release = catchSignals((signal) => heard.push(signal));
  try {
    for (const signal of ["SIGHUP", "SIGTERM", "SIGINT"] as const) {
      process.kill(process.pid, signal);
      await eventually(() => heard.at(-1) === signal, signal);
    }
    expect(heard).toEqual(["SIGHUP", "SIGTERM", "SIGINT"]);
  } finally {
    release();
  }
});

test("released signals have no handlers left", () => {
  const before = process.listenerCount("SIGTERM");
  const release = catchSignals(() => {});
  expect(process.listenerCount("SIGTERM")).toBe(before + 1);
  release();
  expect(process.listenerCount("SIGTERM")).toBe(before);
});
