import { expect, test } from "bun:test";
import { isBunRecent, requireRecentBun } from "../src/runtime.ts";

test.each(["1.4.0", "1.4.5", "1.10.0", "2.0.0"])("Bun %s will do", (version) => {
  expect(isBunRecent(version)).toBe(true);
  expect(() => requireRecentBun(version)).not.toThrow();
});

test.each(["1.3.14", "1.2.23", "0.8.1"])(
  "Bun %s is too old, and it is said what to do",
  (version) => {
    expect(isBunRecent(version)).toBe(false);
    expect(() => requireRecentBun(version)).toThrow(
      `Bun ${version} is too old: >=1.4.0 is needed; bun upgrade, or npm install -g bun`,
    );
  },
);

test("the Bun of these tests will do", () => {
  expect(isBunRecent(Bun.version)).toBe(true);
});
