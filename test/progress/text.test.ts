import { describe, expect, test } from "bun:test";
import { barText, jsonText, lineText } from "../../src/progress/text.ts";
import type { Snapshot } from "../../src/progress/watch.ts";

const GiB = 2 ** 30;

/** Half of a stream of 10 GiB. */
const HALF: Snapshot = {
  streamed: 5 * GiB,
  data: 4 * GiB,
  zeroes: GiB,
  size: 10 * GiB,
  elapsed: 20.12345,
  rate: 256 * 2 ** 20,
  remaining: 20,
  state: undefined,
};
const ENDLESS: Snapshot = { ...HALF, size: null, remaining: undefined };
const WAITING: Snapshot = { ...HALF, rate: 0, remaining: undefined, state: "waiting for a reader" };
/** As wide as numbers get. */
const WIDE: Snapshot = {
  ...HALF,
  streamed: 1023 * GiB,
  size: 1023 * 1024 * GiB,
  rate: 1023 * 2 ** 20,
  remaining: 999 * 86_400 + 23 * 3600,
};

describe("the bar", () => {
  test.each([
    [79, HALF, "50% [###############................] 5.00 GiB of 10.0 GiB, 256 MiB/s 0:20 left"],
    [39, HALF, "50% [#######.......] 5.00 GiB 0:20 left"],
    [19, HALF, "50% 0:20 left"],
    [9, HALF, "50%"],
    [79, ENDLESS, "5.00 GiB, 256 MiB/s 0:20"],
    [39, ENDLESS, "5.00 GiB, 256 MiB/s 0:20"],
    [19, ENDLESS, "5.00 GiB 0:20"],
    [9, ENDLESS, "0:20"],
    [
      79,
      WAITING,
      "50% [############............] 5.00 GiB of 10.0 GiB, 0 B/s waiting for a reader",
    ],
    [39, WAITING, "50% 5.00 GiB waiting for a reader"],
    [19, WAITING, "50%"],
    [79, WIDE, " 0% [..........................] 1023 GiB of 1023 TiB, 1023 MiB/s 999d 23h left"],
    [39, WIDE, " 0% [..........] 1023 GiB 999d 23h left"],
    [19, WIDE, " 0% 999d 23h left"],
  ])("in %d columns is cut to what matters most: %#", (width, snapshot, text) => {
    expect(barText(snapshot, width, false)).toBe(text);
  });

  test("is never wider than there is room for, and never longer with colours", () => {
    for (const snapshot of [HALF, ENDLESS, WAITING, WIDE]) {
      for (let width = 0; width < 200; width++) {
        const text = barText(snapshot, width, false);
        expect(text.length).toBeLessThanOrEqual(width);
        expect(Bun.stripANSI(barText(snapshot, width, true))).toBe(text);
      }
    }
  });

  test("is full at the end, and may be passed by a source that is longer", () => {
    for (const streamed of [10 * GiB, 20 * GiB]) {
      expect(barText({ ...HALF, streamed, remaining: 0 }, 70, false)).toMatch(/^99% \[#+\] /);
    }
  });

  test("takes a stream without a byte", () => {
    const nothing = { streamed: 0, data: 0, zeroes: 0, size: 0, rate: 0, remaining: undefined };
    expect(barText({ ...HALF, ...nothing }, 60, false)).toMatch(/^ 0% \[\.+\] 0 B of 0 B, 0 B\/s$/);
  });
});

describe("the line for people", () => {
  test("has all there is", () => {
    expect(lineText(HALF)).toBe("50%, 5.00 GiB of 10.0 GiB, 256 MiB/s, 0:20 left");
    expect(lineText(ENDLESS)).toBe("5.00 GiB, 256 MiB/s, 0:20");
    expect(lineText(WAITING)).toBe("50%, 5.00 GiB of 10.0 GiB, 0 B/s, waiting for a reader");
    expect(lineText({ ...HALF, remaining: undefined })).toBe(
      "50%, 5.00 GiB of 10.0 GiB, 256 MiB/s",
    );
  });
});

describe("the line for programs", () => {
  test("has numbers, and a size of null where it is not known", () => {
    expect(JSON.parse(jsonText(HALF))).toEqual({
      streamed: 5 * GiB,
      data: 4 * GiB,
      zeroes: GiB,
      size: 10 * GiB,
      elapsed: 20.123,
    });
    expect(JSON.parse(jsonText(ENDLESS))).toMatchObject({ size: null });
  });
});
