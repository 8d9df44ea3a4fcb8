import { expect, test } from "bun:test";
import fc from "fast-check";
import { Ranges } from "../../../src/stream/write/ranges.ts";

const END = 24;
const range = fc
  .tuple(fc.nat(END), fc.nat(END))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const step = fc.tuple(fc.constantFrom("add" as const, "remove" as const), range);

test("ranges have what was added and not removed since, whatever overlaps", () => {
  const property = fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
    const ranges = new Ranges();
    const model = new Set<number>();
    for (const [what, [start, end]] of steps) {
      ranges[what](start, end);
      for (let at = start; at < end; at++) model[what === "add" ? "add" : "delete"](at);
      expect(ranges.isEmpty).toBe(model.size === 0);
    }
    // Position by position, to see which are there.
    for (const at of model) {
      expect(ranges.isEmpty).toBeFalse();
      ranges.remove(at, at + 1);
    }
    expect(ranges.isEmpty).toBeTrue();
  });
  fc.assert(property);
});
