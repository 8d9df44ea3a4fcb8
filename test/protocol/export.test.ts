import { describe, expect, test } from "bun:test";
import {
  advertisedSize,
  ALLOCATION_CONTEXT,
  ALLOCATION_ID,
  BLOCK_SIZE,
  READ_FLAGS,
  UNBOUNDED_SIZE,
  writeFlags,
} from "../../src/protocol/export.ts";

const isPowerOfTwo = (value: number) => Number.isInteger(Math.log2(value));

describe("the size", () => {
  test("of a stream without an end is the largest that qemu takes", () => {
    expect(UNBOUNDED_SIZE).toBe(9_223_372_035_781_033_984n);
    expect(advertisedSize(UNBOUNDED_SIZE)).toBe(UNBOUNDED_SIZE);
  });

  test.each([
    [0, 0],
    [1, 512],
    [511, 512],
    [512, 512],
    [513, 1024],
    [2 ** 40 + 1, 2 ** 40 + 512],
  ])("of %d bytes is advertised as %d", (size, advertised) => {
    expect(advertisedSize(size)).toBe(advertised);
  });

  test("rounds up exactly beyond 2^53", () => {
    expect(advertisedSize(2 ** 53 - 1)).toBe(2n ** 53n);
    expect(advertisedSize(2n ** 62n + 1n)).toBe(2n ** 62n + 512n);
  });
});

describe("the transmission flags", () => {
  const bits = (flushes: boolean, ...positions: number[]) =>
    positions.map((position) => (writeFlags(flushes) >> position) & 1);

  test("offer WRITE_ZEROES, and FLUSH and FUA together or not at all", () => {
    expect(bits(true, 0, 2, 3, 6)).toEqual([1, 1, 1, 1]);
    expect(bits(false, 0, 2, 3, 6)).toEqual([1, 0, 0, 1]);
  });

  test("say neither READ_ONLY nor CAN_MULTI_CONN nor SEND_FAST_ZERO, nor anything else", () => {
    expect(writeFlags(true) & ~0b100_1101).toBe(0);
    expect(bits(true, 1, 8, 11)).toEqual([0, 0, 0]);
  });

  test("of a stream that is read say READ_ONLY and nothing else", () => {
    expect(READ_FLAGS).toBe(0b11);
  });
});

test("the block sizes keep to the specification's constraints", () => {
  const { minimum, preferred, maximum } = BLOCK_SIZE;
  expect(isPowerOfTwo(minimum) && minimum <= 65536).toBeTrue();
  expect(isPowerOfTwo(preferred) && preferred >= Math.max(minimum, 512)).toBeTrue();
  expect(maximum % minimum).toBe(0);
  // The payload that every server should take; less would surprise clients.
  expect(maximum).toBeGreaterThanOrEqual(2 ** 25);
});

test("the metadata context is the specification's, under a number of 32 bits", () => {
  expect(ALLOCATION_CONTEXT).toBe("base:allocation");
  expect(ALLOCATION_ID >>> 0).toBe(ALLOCATION_ID);
});
