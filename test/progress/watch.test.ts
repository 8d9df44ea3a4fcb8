import { describe, expect, test } from "bun:test";
import { Watch } from "../../src/progress/watch.ts";
import type { Phase, Stage } from "../../src/server/observer.ts";
import { Counters } from "../../src/stream/counters.ts";

/** A stream of 1000 bytes whose figures the test sets. */
class Stream {
  readonly counters = new Counters();
  stage: Stage = "running";
  elapsed = 0;
  phase: Phase | undefined;
  /** Undefined is {@link elapsed}. */
  sincePhase: number | undefined;
  readonly opened = true;

  constructor(
    readonly direction: "read" | "write",
    public length: bigint | undefined,
  ) {}

  get phaseElapsed(): number {
    return this.sincePhase ?? this.elapsed;
  }
}

function watched(size: bigint | null = 1000n, direction: "read" | "write" = "write") {
  const stream = new Stream(direction, size ?? undefined);
  const watch = new Watch(stream, 0);
  /** One look at a time, after so many bytes more. */
  const look = (now: number, bytes = 0) => {
    stream.counters.addData(bytes);
    stream.elapsed = now;
    return watch.look(now);
  };
  return { stream, watch, look };
}

describe("the rate", () => {
  test("is that of the last 5 seconds", () => {
    const { look } = watched();
    look(0);
    for (let second = 1; second <= 5; second++) look(second, 100);
    expect(look(6, 0).rate).toBe(80);
    for (let second = 7; second <= 10; second++) look(second, 0);
    expect(look(11).rate).toBe(0);
  });

  test("is that since the last look when that is longer ago", () => {
    const { look } = watched();
    look(0);
    expect(look(100, 500).rate).toBe(5);
    expect(look(200, 100).rate).toBe(1);
  });

  test("does not count the time before the first client", () => {
    const { stream, watch, look } = watched();
    look(0);
    stream.counters.addZeroes(100);
    stream.elapsed = 2;
    expect(watch.look(4).rate).toBe(50);
  });

  test("tells how long it will take, unless nothing moves or there is no end", () => {
    const { look } = watched();
    look(0);
    expect(look(1, 100)).toMatchObject({ streamed: 100, size: 1000, rate: 100, remaining: 9 });
    expect(look(2, 1000).remaining).toBe(0);
    expect(watched().look(1).remaining).toBeUndefined();
    const endless = watched(null);
    endless.look(0);
    endless.stream.counters.addData(1);
    expect(endless.look(1)).toMatchObject({ size: null, rate: expect.any(Number) });
    expect(endless.look(2).remaining).toBeUndefined();
  });
});

describe("the state", () => {
  test.each([
    ["write", "opening", "waiting for a reader"],
    ["read", "opening", "waiting for a writer"],
    ["write", "deserted", "waiting for a client"],
    ["read", "deserted", "waiting for a client"],
  ] as const)("of a stream that is to be %p and %p is %p", (direction, stage, state) => {
    const { stream, look } = watched(1000n, direction);
    stream.stage = stage;
    expect(look(1).state).toBe(state);
  });

  test.each([
    ["write", true, "reader is slow"],
    ["read", true, "writer is slow"],
    ["write", false, "nothing moves"],
    ["read", false, "nothing moves"],
  ] as const)(
    "%s with the endpoint awaited (%p) is %p after 2 s of silence",
    (way, awaited, state) => {
      const { stream, look } = watched(1000n, way);
      stream.counters.endpointAwaited = awaited;
      expect(look(1, 1).state).toBeUndefined();
      expect(look(2.9).state).toBeUndefined();
      expect(look(3).state).toBe(state);
      expect(look(4, 1).state).toBeUndefined();
    },
  );

  test("at the end is not there while zeroes move, and then is finishing", () => {
    const { stream, look } = watched();
    stream.stage = "ending";
    expect(look(1, 500).state).toBeUndefined();
    expect(look(3).state).toBe("finishing");
    expect(look(4, 100).state).toBeUndefined();
    expect(look(5, 400).state).toBe("finishing");
  });

  test("counts the silence from the moment that a client is there", () => {
    const { stream, look } = watched();
    stream.stage = "deserted";
    look(0);
    expect(look(100).state).toBe("waiting for a client");
    stream.stage = "running";
    expect(look(101).state).toBeUndefined();
    expect(look(102).state).toBe("nothing moves");
  });
});

describe("a stream that is held", () => {
  /** Bytes that its clients write at a time, by looks a second apart. */
  function held(...written: readonly number[]) {
    const one = watched();
    one.stream.phase = "holding";
    one.look(0);
    for (const [i, bytes] of written.entries()) {
      one.stream.counters.addStored(bytes);
      one.stream.counters.spooled += bytes;
      one.look(i + 1);
    }
    return one;
  }

  /** The clients are done after so many seconds, and so many bytes go out. */
  function streaming({ stream }: ReturnType<typeof held>, length: bigint): void {
    Object.assign(stream, { phase: "streaming", stage: "opening", length, sincePhase: 0 });
  }

  test("moves as fast as its clients write, and nobody knows when that ends", () => {
    const { stream, look } = held(300);
    stream.counters.addStored(100);
    expect(look(2)).toMatchObject({
      phase: "holding",
      streamed: 0,
      spooled: 300,
      rate: 200,
      remaining: undefined,
      state: undefined,
    });
  });

  test("moves when its clients write over what they have written", () => {
    const { stream, look } = held(300);
    stream.counters.addStored(300);
    expect(look(4).state).toBeUndefined();
    expect(look(5).state).toBeUndefined();
    expect(look(6).state).toBe("nothing moves");
  });

  test("moves when its clients give something back", () => {
    const { stream, look } = held(300);
    stream.counters.spooled = 100;
    expect(look(4).state).toBeUndefined();
  });

  test("waits for a client, however long, whether or not the reader is there", () => {
    const { stream, look } = held();
    stream.stage = "deserted";
    expect(look(60).state).toBe("waiting for a client");
  });

  /** More than the time of which the rate is the mean. */
  const LONG = Array.from({ length: 8 }, () => 300);

  test("then has the rate, the length and the time left of what goes out, and of nothing before", () => {
    const one = held(...LONG);
    const { stream, watch } = one;
    streaming(one, 500n);
    stream.elapsed = 8;
    const still = { phase: "streaming", size: 500, rate: 0, remaining: undefined };
    expect(watch.look(8)).toMatchObject({ ...still, state: "waiting for a reader" });
    stream.stage = "ending";
    stream.sincePhase = 2;
    stream.elapsed = 10;
    stream.counters.addData(100);
    const moving = { streamed: 100, rate: 50, remaining: 8, state: undefined };
    expect(watch.look(10)).toMatchObject(moving);
  });

  test("has a rate from the moment that its clients are done, even if that was between two looks", () => {
    const one = held(...LONG);
    const { stream, watch } = one;
    streaming(one, 500n);
    stream.sincePhase = 0.5;
    stream.elapsed = 9;
    stream.counters.addData(100);
    expect(watch.look(9)).toMatchObject({ rate: 200, remaining: 2 });
  });

  test.each([
    [true, "reader is slow"],
    [false, "nothing moves"],
  ])("tells while it goes out who is slow (awaited: %p): %p", (awaited, state) => {
    const one = held(300);
    const { stream, look } = one;
    streaming(one, 500n);
    stream.stage = "ending";
    stream.counters.endpointAwaited = awaited;
    expect(look(2, 100).state).toBeUndefined();
    expect(look(4).state).toBe(state);
    expect(look(5, 400).state).toBe("finishing");
  });
});

test("data that goes into the spool is progress of a stream that is not held, too", () => {
  const { stream, look } = watched();
  look(0);
  stream.counters.addStored(100);
  stream.counters.spooled = 100;
  expect(look(3)).toMatchObject({ spooled: 100, streamed: 0, rate: 0, state: undefined });
  expect(look(5).state).toBe("nothing moves");
});
