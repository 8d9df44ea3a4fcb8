import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { pipeCapacity, PROBES, tryProbe } from "../../src/check/machine.ts";
import { tempFolder } from "../support/temp.ts";

test("every system call does here what it is needed for, and no descriptor is left open", () => {
  using folder = tempFolder();
  const before = readdirSync("/proc/self/fd").length;
  for (const probe of PROBES)
    expect([probe[0], tryProbe(probe, folder.path)]).toEqual([probe[0], undefined]);
  expect(readdirSync("/proc/self/fd")).toHaveLength(before);
});

test("a probe that fails says why", () => {
  const fails = () => {
    throw new Error("not permitted");
  };
  expect(tryProbe(["x", "y", fails], "/")).toBe("not permitted");
  expect(tryProbe(["x", "y", () => false], "/")).toBe("it does not do what it should");
});

test("a new pipe has at least a page", () => {
  expect(pipeCapacity()).toBeGreaterThanOrEqual(4096);
});
