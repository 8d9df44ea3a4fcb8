import { expect, test } from "bun:test";
import { formatSize, parseSize } from "../src/size.ts";

const UNITS: [string, bigint][] = [
  ["", 1n],
  ["b", 1n],
  ["s", 512n],
  ["k", 1024n],
  ["m", 1024n ** 2n],
  ["g", 1024n ** 3n],
  ["t", 1024n ** 4n],
  ["p", 1024n ** 5n],
  ["e", 1024n ** 6n],
];

test.each(UNITS)("the suffix %p counts in units of %d bytes, in either case", (suffix, unit) => {
  expect(parseSize(`7${suffix}`)).toBe(7n * unit);
  expect(parseSize(`7${suffix.toUpperCase()}`)).toBe(7n * unit);
});

test.each([
  [0, "0"],
  [1, "1"],
  [1023, "1023"],
  [1024, "1k"],
  [3 << 20, "3M"],
  [2 ** 34, "16G"],
  [25_165_824n + 512n, "25166336"],
])("the size %p is written as %s", (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
});
