import { expect, test } from "bun:test";
import fc from "fast-check";
import { Runs } from "../../src/stream/runs.ts";

const END = 24;
const range = fc
  .tuple(fc.nat(END), fc.nat(END))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const step = fc.tuple(fc.constantFrom("add" as const, "remove" as const), range);

test("runs have what was added and not removed since, whatever overlaps", () => {
  const property = fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
    const runs = new Runs();
    const model = new Set<number>();
    for (const [what, [start, end]] of steps) {
      runs[what](start, end);
      for (let at = start; at < end; at++) model[what === "add" ? "add" : "delete"](at);
      expect(runs.isEmpty).toBe(model.size === 0);
    }
    // Position by position, to see which are there.
    for (const at of model) {
      expect(runs.isEmpty).toBeFalse();
      runs.remove(at, at + 1);
    }
    expect(runs.isEmpty).toBeTrue();
  });
  fc.assert(property);
});
