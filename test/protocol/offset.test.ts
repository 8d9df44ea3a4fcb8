import { describe, expect, test } from "bun:test";
import {
  add,
  MAX_OFFSET,
  max,
  min,
  type Offset,
  readOffset,
  roundUp,
  subtract,
  toOffset,
  writeOffset,
} from "../../src/protocol/offset.ts";

const BORDERS = [0n, 512n, 2n ** 31n, 2n ** 32n, 2n ** 52n, 2n ** 53n, 2n ** 63n, 2n ** 64n];

/** 64-bit values: those around powers where something could go wrong, then many others. */
function values(): bigint[] {
  const near = BORDERS.flatMap((border) => [-2n, -1n, 0n, 1n, 2n].map((step) => border + step));
  const random: bigint[] = [];
  let state = 0x9e37_79b9_7f4a_7c15n;
  for (let i = 0; i < 40; i++) {
    // xorshift64, cut to every magnitude.
    state ^= (state << 13n) & MAX_OFFSET;
    state ^= state >> 7n;
    state ^= (state << 17n) & MAX_OFFSET;
    random.push(state >> BigInt((i * 7) % 64));
  }
  return [...near, ...random].filter((value) => value >= 0n && value <= MAX_OFFSET);
}

const VALUES = values();

/** Asserts the value and its form: a number exactly when a number is safe. */
function expectOffset(actual: Offset, value: bigint): void {
  expect(BigInt(actual)).toBe(value);
  expect(typeof actual).toBe(value < 2n ** 53n ? "number" : "bigint");
}

function eachPair(check: (a: bigint, b: bigint) => void): void {
  for (const a of VALUES) for (const b of VALUES) check(a, b);
}

test("an offset is a number up to 2^53 - 1 and a bigint above", () => {
  expect(toOffset(2n ** 53n - 1n)).toBe(9007199254740991);
  expect(toOffset(2n ** 53n)).toBe(9007199254740992n);
  for (const value of VALUES) expectOffset(toOffset(value), value);
});

test("the largest offset is what fits into 64 bits", () => {
  expect(MAX_OFFSET).toBe(0xffff_ffff_ffff_ffffn);
});

test("equal offsets are identical, however they came about", () => {
  eachPair((a, b) => {
    expect(add(toOffset(a), toOffset(b)) === add(toOffset(b), toOffset(a))).toBeTrue();
    expect((toOffset(a) === toOffset(b)) === (a === b)).toBeTrue();
  });
  expect(add(2 ** 53 - 1, 1)).toBe(toOffset(2n ** 53n));
  expect(subtract(2n ** 53n, 1)).toBe(2 ** 53 - 1);
});

describe("readOffset", () => {
  test("reads big-endian 64-bit integers exactly", () => {
    const view = new DataView(new ArrayBuffer(8));
    for (const value of VALUES) {
      view.setBigUint64(0, value);
      expectOffset(readOffset(view, 0), value);
    }
  });

  test("reads at a position that is not aligned", () => {
    const view = new DataView(new ArrayBuffer(24).slice(0), 1);
    view.setBigUint64(5, 0x0123_4567_89ab_cdefn);
    expect(readOffset(view, 5)).toBe(0x0123_4567_89ab_cdefn);
  });
});

describe("writeOffset", () => {
  test("writes big-endian 64-bit integers exactly", () => {
    const view = new DataView(new ArrayBuffer(8));
    for (const value of VALUES) {
      view.setBigUint64(0, ~value & MAX_OFFSET);
      writeOffset(view, 0, toOffset(value));
      expect(view.getBigUint64(0)).toBe(value);
    }
  });

  test.each([
    [0, "0000000000000000"],
    [2 ** 32 - 1, "00000000ffffffff"],
    [2 ** 32, "0000000100000000"],
    [2 ** 53 - 1, "001fffffffffffff"],
    [2n ** 53n, "0020000000000000"],
    [2n ** 64n - 1n, "ffffffffffffffff"],
  ])("writes %p as %s", (offset, hex) => {
    const bytes = new Uint8Array(8).fill(0xee);
    writeOffset(new DataView(bytes.buffer), 0, offset);
    expect(Buffer.from(bytes).toString("hex")).toBe(hex);
  });

  test("writes at a position that is not aligned and touches no other bytes", () => {
    const bytes = new Uint8Array(16).fill(0xee);
    writeOffset(new DataView(bytes.buffer, 1), 2, 0x0001_2345_6789_abcd);
    expect(Buffer.from(bytes).toString("hex")).toBe(`eeeeee${"000123456789abcd"}${"ee".repeat(5)}`);
  });
});

describe("arithmetic", () => {
  test("adds exactly", () => {
    eachPair((a, b) => expectOffset(add(toOffset(a), toOffset(b)), a + b));
  });

  test("does not wrap beyond 2^64", () => {
    expect(add(MAX_OFFSET, 0xffff_ffff)).toBe(2n ** 64n + 2n ** 32n - 2n);
  });

  test("subtracts exactly", () => {
    eachPair((a, b) => {
      if (a >= b) expectOffset(subtract(toOffset(a), toOffset(b)), a - b);
    });
  });

  test("undoes an addition by a subtraction", () => {
    eachPair((a, b) => {
      const sum = add(toOffset(a), toOffset(b));
      expect(subtract(sum, toOffset(b)) === toOffset(a)).toBeTrue();
    });
  });

  test("compares by value whatever the forms", () => {
    eachPair((a, b) => {
      expect(toOffset(a) < toOffset(b)).toBe(a < b);
      expectOffset(min(toOffset(a), toOffset(b)), a < b ? a : b);
      expectOffset(max(toOffset(a), toOffset(b)), a > b ? a : b);
    });
  });

  test("rounds up to whole units", () => {
    for (const unit of [1, 2, 512, 4096, 1_000_000]) {
      for (const value of VALUES) {
        const rounded = BigInt(roundUp(toOffset(value), unit));
        expect(rounded % BigInt(unit)).toBe(0n);
        expect(rounded - value).toBeGreaterThanOrEqual(0n);
        expect(rounded - value).toBeLessThan(BigInt(unit));
        expectOffset(roundUp(toOffset(value), unit), rounded);
      }
    }
  });
});
