import { describe, expect, test } from "bun:test";
import { parseSize } from "../../src/library/size.ts";
import { usageErrorOf } from "../support/thrown.ts";

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

/** The largest size: 2^63 - 2^30 bytes. */
const LARGEST = 9_223_372_035_781_033_984n;

test.each(UNITS)("the suffix %p counts in units of %d bytes, in either case", (suffix, unit) => {
  expect(parseSize("size", `7${suffix}`)).toBe(7n * unit);
  expect(parseSize("size", `7${suffix.toUpperCase()}`)).toBe(7n * unit);
});

test.each([
  ["0", 0n],
  ["0G", 0n],
  ["007", 7n],
  ["9007199254740993", 9_007_199_254_740_993n],
  [String(LARGEST), LARGEST],
  ["18014398507384832s", 18_014_398_507_384_832n * 512n],
  ["8589934591g", 8_589_934_591n << 30n],
  ["7E", 7n << 60n],
])("%s is exact", (text, bytes) => {
  expect(parseSize("size", text)).toBe(bytes);
});

test.each([
  String(LARGEST + 1n),
  "18014398507384833s",
  "8589934592G",
  "8E",
  "9223372036854775808",
  "18446744073709551616",
  `1${"0".repeat(40)}`,
])("%s is too large", (text) => {
  expect(usageErrorOf(() => parseSize("size", text))).toBe(
    `size: ${JSON.stringify(text)} is too large: the most is 2^63 - 2^30 bytes`,
  );
});

describe("what is no size", () => {
  test.each([
    "",
    " ",
    "G",
    "-1",
    "+1",
    "1.5G",
    "1e3",
    "0x10",
    "10 G",
    " 10",
    "10\n",
    "10KiB",
    "10KB",
    "10GG",
    "10z",
    "1_000",
    "1,000",
    "١",
    "10\u212a", // the sign for Kelvin, which is a k to some
    "Infinity",
  ])("%p is refused by the parameter's name", (text) => {
    const message = usageErrorOf(() => parseSize("window", text));
    expect(message).toStartWith(`window: ${JSON.stringify(text)} is not a size: `);
  });
});
