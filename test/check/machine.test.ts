import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { checkMachine, pipeCapacity } from "../../src/check/machine.ts";

test("this machine will do, and no descriptor is left open", () => {
  const before = readdirSync("/proc/self/fd").length;
  expect(checkMachine().filter(({ state }) => state === "failed")).toEqual([]);
  expect(readdirSync("/proc/self/fd")).toHaveLength(before);
});

test("a new pipe has at least a page", () => {
  expect(pipeCapacity()).toBeGreaterThanOrEqual(4096);
});
