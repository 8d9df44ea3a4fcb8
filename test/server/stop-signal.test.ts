import { expect, test } from "bun:test";
import { StopSignal } from "../../src/server/stop-signal.ts";

test("the first signal is remembered, and listeners hear all until they have enough", () => {
  const stopSignal = new StopSignal();
  const heard: string[] = [];
  const unsubscribe = stopSignal.subscribe((signal) => heard.push(signal));
  expect(stopSignal.caught).toBeUndefined();
  expect(stopSignal.stop.aborted).toBe(false);
  stopSignal.raise("SIGHUP");
  stopSignal.raise("SIGTERM");
  unsubscribe();
  stopSignal.raise("SIGINT");
  expect(heard).toEqual(["SIGHUP", "SIGTERM"]);
  expect(stopSignal.caught).toBe("SIGHUP");
  expect(stopSignal.count).toBe(3);
  expect(stopSignal.stop.aborted).toBe(true);
});
