import { describe, expect, test } from "bun:test";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../../src/protocol/offset.ts";
import { ReadRule } from "../../../src/stream/read/rule.ts";

const MIB = 1024 * 1024;

type Verdict = "admitted" | "refused" | "past the end";

function judge(rule: ReadRule, offset: Offset, length: number): Verdict {
  if (!rule.contains(offset, length)) return "past the end";
  return rule.admit(offset, length) ? "admitted" : "refused";
}

function rule(head: Offset, { size = (100 * MIB) as Offset, window = 0 } = {}): ReadRule {
  const rule = new ReadRule(size, window);
  rule.head = head;
  return rule;
}

describe("a READ", () => {
  test.each<[Offset, Offset, number, Verdict]>([
    // At the start, and ahead.
    [0, 0, 1, "admitted"],
    [0, 50 * MIB, MIB, "admitted"],
    // Up to the end, and past it.
    [0, 100 * MIB - 1, 1, "admitted"],
    [0, 100 * MIB - 1, 2, "past the end"],
    [0, 100 * MIB, 1, "past the end"],
    [5 * MIB, 100 * MIB, 1, "past the end"],
    [0, 2n ** 64n - 1n, 1, "past the end"],
    // In sequence.
    [5 * MIB, 5 * MIB, MIB, "admitted"],
    // What is kept.
    [5 * MIB, 0, MIB, "admitted"],
    [5 * MIB, MIB - 1, 1, "admitted"],
    [5 * MIB, 0, MIB + 1, "refused"],
    [5 * MIB, MIB - 1, 2, "refused"],
    [5 * MIB, MIB, 1, "refused"],
    // From what is kept into what is ahead.
    [MIB, 0, 3 * MIB, "admitted"],
    [MIB + 1, MIB - 1, 1, "admitted"],
    [MIB + 1, MIB - 1, 2, "refused"],
    [1000, 500, MIB, "admitted"],
    // What has just gone by.
    [5 * MIB, 5 * MIB - 1, 1, "refused"],
    [5 * MIB, 5 * MIB - 1, MIB, "refused"],
  ])("with the head at %p, at %p of %d bytes is %s", (head, offset, length, verdict) => {
    const stream = rule(head);
    expect(judge(stream, offset, length)).toBe(verdict);
    expect(stream.needed).toBe(0);
  });

  test.each<[Offset, number, Verdict]>([
    [3 * MIB, 1, "admitted"],
    [3 * MIB, 2 * MIB, "admitted"],
    [3 * MIB, 10 * MIB, "admitted"],
    [3 * MIB - 1, 1, "refused"],
    [3 * MIB - 1, 10 * MIB, "refused"],
    [0, MIB, "admitted"],
    [0, MIB + 1, "refused"],
  ])("at %p of %d bytes is %s with a window of 2M behind 5M", (offset, length, verdict) => {
    expect(judge(rule(5 * MIB, { window: 2 * MIB }), offset, length)).toBe(verdict);
  });

  test("may reach from what is kept into the window when the two meet", () => {
    const stream = rule(3 * MIB, { window: 2 * MIB });
    expect(judge(stream, 0, 5 * MIB)).toBe("admitted");
    expect(stream.needed).toBe(2 * MIB);
    stream.head = 3 * MIB + 1;
    expect(judge(stream, 0, 5 * MIB)).toBe("refused");
  });

  test("above 2^53 is judged exactly", () => {
    const head = toOffset(2n ** 60n + 1n);
    const stream = rule(head, { size: toOffset(UNBOUNDED_SIZE), window: 2 });
    expect(judge(stream, 2n ** 60n + 1n, 1)).toBe("admitted");
    expect(judge(stream, 2n ** 60n, 1)).toBe("admitted");
    expect(stream.needed).toBe(1);
    expect(judge(stream, 2n ** 60n - 1n, 1)).toBe("admitted");
    expect(judge(stream, 2n ** 60n - 2n, 4)).toBe("refused");
    expect(stream.needed).toBe(2);
    expect(stream.reach).toBe(2n ** 60n - 1n);
    expect(judge(stream, UNBOUNDED_SIZE - 1n, 1)).toBe("admitted");
    expect(judge(stream, UNBOUNDED_SIZE - 1n, 2)).toBe("past the end");
    expect(judge(stream, 0, MIB)).toBe("admitted");
  });

  test("across 2^53 is judged exactly", () => {
    const stream = rule(2 ** 53 - 1, { size: toOffset(UNBOUNDED_SIZE) });
    expect(judge(stream, 2 ** 53 - 1, 10)).toBe("admitted");
    stream.head = 2n ** 53n;
    expect(judge(stream, 2 ** 53 - 1, 10)).toBe("refused");
    expect(stream.windowFor(2 ** 53 - 1)).toBe(1);
  });
});

test("the disk has whole sectors", () => {
  const stream = rule(1000, { size: 1000 });
  expect(stream.advertised).toBe(1024);
  expect(judge(stream, 1000, 24)).toBe("admitted");
  expect(judge(stream, 1000, 25)).toBe("past the end");
});

describe("the window that a READ takes", () => {
  test("is counted from the head, and only down to what is kept", () => {
    const stream = rule(5 * MIB);
    expect(stream.windowFor(4 * MIB)).toBe(MIB);
    expect(stream.windowFor(MIB)).toBe(4 * MIB);
    expect(stream.windowFor(0)).toBe(4 * MIB);
    expect(stream.windowFor(6 * MIB)).toBe(0);
    stream.head = MIB / 2;
    expect(stream.windowFor(0)).toBe(0);
  });

  test("is noted at its largest, but not that of a READ that is refused", () => {
    const stream = rule(50 * MIB, { window: 10 * MIB });
    for (const back of [3, 7, 5, 11]) judge(stream, (50 - back) * MIB, 1);
    expect(stream.needed).toBe(7 * MIB);
  });

  test("reaches down to the start at the most", () => {
    expect(rule(100, { window: 1000 }).reach).toBe(0);
    expect(rule(1000, { window: 1000 }).reach).toBe(0);
    expect(rule(1001, { window: 1000 }).reach).toBe(1);
  });
});
