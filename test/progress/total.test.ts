import { describe, expect, test } from "bun:test";
import { totalOf } from "../../src/progress/total.ts";
import type { Snapshot } from "../../src/progress/watch.ts";

const ONE: Snapshot = {
  streamed: 100,
  data: 60,
  zeroes: 40,
  size: 300,
  elapsed: 4,
  rate: 10,
  remaining: 20,
  state: undefined,
};
const OTHER: Snapshot = { ...ONE, streamed: 50, data: 50, zeroes: 0, elapsed: 7, rate: 30 };

const total = (streams: Record<string, Snapshot>, ...ended: string[]) =>
  totalOf(new Map(Object.entries(streams)), new Set(ended));

describe("the total of several streams", () => {
  test("is none before the first begins", () => {
    expect(total({})).toBeUndefined();
  });

  test("has the sums, the longest time, and what remains at the common rate", () => {
    expect(total({ vda: ONE, vdb: OTHER })).toEqual({
      streamed: 150,
      data: 110,
      zeroes: 40,
      size: 600,
      elapsed: 7,
      rate: 40,
      remaining: (200 + 250) / 40,
      state: "0 of 2 done",
    });
  });

  test("has the bytes of a stream that has ended, and not its rate", () => {
    const found = total({ vda: ONE, vdb: OTHER }, "vda");
    expect(found).toMatchObject({ streamed: 150, size: 600, rate: 30, state: "1 of 2 done" });
    expect(found?.remaining).toBe(250 / 30);
  });

  test("is without size and end where one of the streams is", () => {
    const found = total({ vda: ONE, vdb: { ...OTHER, size: null } });
    expect(found).toMatchObject({ streamed: 150, size: null, remaining: undefined });
  });

  test("has no end where nothing moves", () => {
    const found = total({ vda: { ...ONE, rate: 0 }, vdb: { ...OTHER, rate: 0 } });
    expect(found).toMatchObject({ rate: 0, remaining: undefined });
  });

  test("names a stream that waits, and none that has ended", () => {
    const waiting = { ...OTHER, state: "waiting for a reader" };
    const streams = { vda: ONE, vdb: waiting };
    expect(total(streams)?.state).toBe("0 of 2 done, vdb: waiting for a reader");
    expect(total(streams, "vdb")?.state).toBe("1 of 2 done");
  });

  test("of streams that have all ended is through", () => {
    const whole = { ...ONE, streamed: 300 };
    const found = total({ vda: whole, vdb: whole }, "vda", "vdb");
    expect(found).toMatchObject({ streamed: 600, size: 600, rate: 0, state: "2 of 2 done" });
  });
});
