import { describe, expect, test } from "bun:test";
import { totalOf } from "../../src/progress/total.ts";
import type { Snapshot } from "../../src/progress/watch.ts";

const ONE: Snapshot = {
  streamed: 100,
  data: 60,
  zeroes: 40,
  size: 300,
  elapsed: 4,
  spooled: 5,
  phase: undefined,
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
      spooled: 10,
      phase: undefined,
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

  /** Of a stream that is held; the rate is that at which its clients write. */
  const HELD: Snapshot = { ...ONE, streamed: 0, data: 0, zeroes: 0, phase: "holding" };

  test("is held while all are, and has what all their clients write", () => {
    const found = total({ vda: HELD, vdb: { ...HELD, rate: 30 } });
    const none = { streamed: 0, remaining: undefined };
    expect(found).toMatchObject({ ...none, phase: "holding", spooled: 10, rate: 40 });
  });

  test("is streamed when one is, and then has only the rate of those, and no end", () => {
    const found = total({ vda: HELD, vdb: { ...OTHER, phase: "streaming" } });
    const sums = { streamed: 50, size: 600, spooled: 10 };
    expect(found).toMatchObject({ ...sums, phase: undefined, rate: 30, remaining: undefined });
  });

  test("has an end when the last that was held is streamed", () => {
    const found = total({ vda: ONE, vdb: { ...OTHER, phase: "streaming" } });
    expect(found).toMatchObject({ rate: 40, remaining: (200 + 250) / 40 });
  });

  test("is held as before when one that was held has failed", () => {
    expect(total({ vda: HELD, vdb: HELD }, "vda")).toMatchObject({ phase: "holding", rate: 10 });
  });

  test("of streams that have all ended is through", () => {
    const whole = { ...ONE, streamed: 300 };
    const found = total({ vda: whole, vdb: whole }, "vda", "vdb");
    expect(found).toMatchObject({ streamed: 600, size: 600, rate: 0, state: "2 of 2 done" });
  });
});
