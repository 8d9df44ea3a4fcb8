import { expect, test } from "bun:test";
import { Interruption } from "../../src/server/interruption.ts";

test("the first signal is remembered, and listeners hear all until they have enough", () => {
  const interruption = new Interruption();
  const heard: string[] = [];
  const unsubscribe = interruption.subscribe((signal) => heard.push(signal));
  expect(interruption.caught).toBeUndefined();
  expect(interruption.stop.aborted).toBe(false);
  interruption.raise("SIGHUP");
  interruption.raise("SIGTERM");
  unsubscribe();
  interruption.raise("SIGINT");
  expect(heard).toEqual(["SIGHUP", "SIGTERM"]);
  expect(interruption.caught).toBe("SIGHUP");
  expect(interruption.count).toBe(3);
  expect(interruption.stop.aborted).toBe(true);
});
