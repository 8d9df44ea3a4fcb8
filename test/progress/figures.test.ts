import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatBytes, formatDuration, percentOf } from "../../src/progress/text.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

describe("formatBytes", () => {
  test.each([
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [KiB, "1.00 KiB"],
    [9.994 * KiB, "9.99 KiB"],
    [9.996 * KiB, "10.0 KiB"],
    [99.96 * KiB, "100 KiB"],
    [1023 * KiB, "1023 KiB"],
    [1023.6 * KiB, "1.00 MiB"],
    [4.5 * GiB, "4.50 GiB"],
    [1024 * GiB, "1.00 TiB"],
    [2 ** 63 - 2 ** 30, "8.00 EiB"],
  ])("%p is %p", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test("takes at most 8 characters, and is off by half of its last digit at most", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 2 ** 63, noNaN: true }), (bytes) => {
        const text = formatBytes(bytes);
        expect(text.length).toBeLessThanOrEqual(8);
        const [number = "", unit = ""] = text.split(" ");
        const scale = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].indexOf(unit);
        const digit = 10 ** -(number.split(".")[1]?.length ?? 0);
        expect(Math.abs(Number(number) * scale - bytes)).toBeLessThanOrEqual(
          0.5001 * digit * scale,
        );
      }),
    );
  });
});

describe("formatDuration", () => {
  test.each([
    [0, "0:00"],
    [9.4, "0:09"],
    [59.6, "1:00"],
    [754, "12:34"],
    [3599.6, "1:00:00"],
    [11_109, "3:05:09"],
    [86_400, "1d 0h"],
    [442_800, "5d 3h"],
    [1e12, "years"],
    [Number.POSITIVE_INFINITY, "years"],
  ])("%p s is %p", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});

describe("percentOf", () => {
  test.each([
    [0, 100, 0],
    [199, 1000, 19],
    [999, 1000, 99],
    [1000, 1000, 99],
    // A source may be longer than its size.
    [2000, 1000, 99],
    [0, 0, 0],
    [2 ** 62, 2 ** 63, 50],
  ])("%p of %p is %p %% while the stream is not complete", (streamed, size, percent) => {
    expect(percentOf(streamed, size, false)).toBe(percent);
  });

  test("is 100 for a complete stream, however long it is", () => {
    expect([percentOf(5, 10, true), percentOf(0, 0, true)]).toEqual([100, 100]);
  });
});
