import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { pipeCapacity, PROBES, tryProbe } from "../../src/check/probes.ts";
import { tempFolder } from "../support/temp.ts";

test("every system call does here what it is needed for, and no descriptor is left open", () => {
  using folder = tempFolder();
  const before = readdirSync("/proc/self/fd").length;
  for (const probe of PROBES)
    expect([probe.name, tryProbe(probe, folder.path)]).toEqual([probe.name, undefined]);
  expect(readdirSync("/proc/self/fd")).toHaveLength(before);
});

test("a probe that fails says why", () => {
  const probe = {
    name: "x",
    use: "y",
    run: () => {
      throw new Error("not permitted");
    },
  };
  expect(tryProbe(probe, "/")).toBe("not permitted");
});

test("a new pipe has at least a page", () => {
  expect(pipeCapacity()).toBeGreaterThanOrEqual(4096);
});
