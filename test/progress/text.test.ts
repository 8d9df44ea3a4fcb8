import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  barText,
  formatBytes,
  formatDuration,
  jsonText,
  lineText,
  percentOf,
} from "../../src/progress/text.ts";
import type { Snapshot } from "../../src/progress/watch.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Half of a stream of 10 GiB. */
const HALF: Snapshot = {
  streamed: 5 * GiB,
  data: 4 * GiB,
  zeroes: GiB,
  size: 10 * GiB,
  elapsed: 20.12345,
  spooled: 0,
  phase: undefined,
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
/** With data that is ahead of its turn. */
const SPOOLED: Snapshot = { ...HALF, spooled: 2.5 * GiB };
/** Of a stream that is held. */
const HELD: Snapshot = {
  ...HALF,
  streamed: 0,
  data: 0,
  zeroes: 0,
  spooled: 3.25 * GiB,
  phase: "holding",
  remaining: undefined,
};
const GOING_OUT: Snapshot = { ...SPOOLED, phase: "streaming" };

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
    [
      79,
      SPOOLED,
      "50% [######.......] 5.00 GiB of 10.0 GiB, 256 MiB/s, 2.50 GiB spooled 0:20 left",
    ],
    [69, SPOOLED, "50% [##########...........] 5.00 GiB of 10.0 GiB, 256 MiB/s 0:20 left"],
    [39, SPOOLED, "50% [#######.......] 5.00 GiB 0:20 left"],
    [79, { ...SPOOLED, size: null }, "5.00 GiB, 256 MiB/s, 2.50 GiB spooled 0:20"],
    [39, { ...SPOOLED, size: null }, "5.00 GiB, 256 MiB/s 0:20"],
    [79, HELD, "holding 3.25 GiB, 256 MiB/s 0:20"],
    [79, { ...HELD, size: null }, "holding 3.25 GiB, 256 MiB/s 0:20"],
    [79, { ...HELD, state: "nothing moves" }, "holding 3.25 GiB, 256 MiB/s nothing moves"],
    [29, HELD, "holding 3.25 GiB 0:20"],
    [19, HELD, "3.25 GiB 0:20"],
    [9, HELD, "0:20"],
    [3, HELD, "3.2"],
    [
      79,
      GOING_OUT,
      "50% [######.......] 5.00 GiB of 10.0 GiB, 256 MiB/s, 2.50 GiB spooled 0:20 left",
    ],
  ])("in %d columns is cut to what matters most: %#", (width, snapshot, text) => {
    expect(barText(snapshot, width, false)).toBe(text);
  });

  test("is never wider than there is room for, and never longer with colours", () => {
    for (const snapshot of [HALF, ENDLESS, WAITING, WIDE, SPOOLED, HELD]) {
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

  test("has what is in the spool, if there is anything", () => {
    const line = "50%, 5.00 GiB of 10.0 GiB, 256 MiB/s, 2.50 GiB spooled, 0:20 left";
    expect(lineText(SPOOLED)).toBe(line);
    expect(lineText(GOING_OUT)).toBe(line);
    expect(lineText({ ...SPOOLED, size: null })).toBe(
      "5.00 GiB, 256 MiB/s, 2.50 GiB spooled, 0:20",
    );
  });

  test("has no percentage while nothing is streamed, but how long it has taken", () => {
    expect(lineText(HELD)).toBe("holding 3.25 GiB, 256 MiB/s, 0:20");
    expect(lineText({ ...HELD, size: null })).toBe("holding 3.25 GiB, 256 MiB/s, 0:20");
    const waiting = { ...HELD, spooled: 0, rate: 0, state: "waiting for a client" };
    expect(lineText(waiting)).toBe("holding 0 B, 0 B/s, waiting for a client");
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
      spooled: 0,
    });
    expect(JSON.parse(jsonText(ENDLESS))).toMatchObject({ size: null });
  });

  test("has what is in the spool, and the phase of a stream that is held", () => {
    const held = { streamed: 0, spooled: 3.25 * GiB, phase: "holding" };
    expect(JSON.parse(jsonText(HELD))).toMatchObject(held);
    const out = { streamed: 5 * GiB, spooled: 2.5 * GiB, phase: "streaming" };
    expect(JSON.parse(jsonText(GOING_OUT, "vda"))).toMatchObject({ export: "vda", ...out });
  });
});

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
