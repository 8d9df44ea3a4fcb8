import { describe, expect, test } from "bun:test";
import { NBD_EINVAL, NBD_EIO, NBD_OK } from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../../src/protocol/offset.ts";
import { ReadRule } from "../../../src/stream/read/rule.ts";

const MIB = 1024 * 1024;

function rule(head: Offset, { size = (100 * MIB) as Offset, window = 0 } = {}): ReadRule {
  const rule = new ReadRule(size, window);
  rule.head = head;
  return rule;
}

describe("a READ", () => {
  test.each<[Offset, Offset, number, number]>([
    // At the start, and ahead.
    [0, 0, 1, NBD_OK],
    [0, 50 * MIB, MIB, NBD_OK],
    // Up to the end, and past it.
    [0, 100 * MIB - 1, 1, NBD_OK],
    [0, 100 * MIB - 1, 2, NBD_EINVAL],
    [0, 100 * MIB, 1, NBD_EINVAL],
    [5 * MIB, 100 * MIB, 1, NBD_EINVAL],
    [0, 2n ** 64n - 1n, 1, NBD_EINVAL],
    // In sequence.
    [5 * MIB, 5 * MIB, MIB, NBD_OK],
    // What is kept.
    [5 * MIB, 0, MIB, NBD_OK],
    [5 * MIB, MIB - 1, 1, NBD_OK],
    [5 * MIB, 0, MIB + 1, NBD_EIO],
    [5 * MIB, MIB - 1, 2, NBD_EIO],
    [5 * MIB, MIB, 1, NBD_EIO],
    // From what is kept into what is ahead.
    [MIB, 0, 3 * MIB, NBD_OK],
    [MIB + 1, MIB - 1, 1, NBD_OK],
    [MIB + 1, MIB - 1, 2, NBD_EIO],
    [1000, 500, MIB, NBD_OK],
    // What has just gone by.
    [5 * MIB, 5 * MIB - 1, 1, NBD_EIO],
    [5 * MIB, 5 * MIB - 1, MIB, NBD_EIO],
  ])("with the head at %p, at %p of %d bytes is %d", (head, offset, length, error) => {
    const judge = rule(head);
    expect(judge.judge(offset, length)).toBe(error);
    expect(judge.needed).toBe(0);
  });

  test.each<[Offset, number, number]>([
    [3 * MIB, 1, NBD_OK],
    [3 * MIB, 2 * MIB, NBD_OK],
    [3 * MIB, 10 * MIB, NBD_OK],
    [3 * MIB - 1, 1, NBD_EIO],
    [3 * MIB - 1, 10 * MIB, NBD_EIO],
    [0, MIB, NBD_OK],
    [0, MIB + 1, NBD_EIO],
  ])("at %p of %d bytes is %d with a window of 2M behind 5M", (offset, length, error) => {
    expect(rule(5 * MIB, { window: 2 * MIB }).judge(offset, length)).toBe(error);
  });

  test("may reach from what is kept into the window when the two meet", () => {
    const judge = rule(3 * MIB, { window: 2 * MIB });
    expect(judge.judge(0, 5 * MIB)).toBe(NBD_OK);
    expect(judge.needed).toBe(2 * MIB);
    judge.head = 3 * MIB + 1;
    expect(judge.judge(0, 5 * MIB)).toBe(NBD_EIO);
  });

  test("above 2^53 is judged exactly", () => {
    const head = toOffset(2n ** 60n + 1n);
    const judge = rule(head, { size: toOffset(UNBOUNDED_SIZE), window: 2 });
    expect(judge.judge(2n ** 60n + 1n, 1)).toBe(NBD_OK);
    expect(judge.judge(2n ** 60n, 1)).toBe(NBD_OK);
    expect(judge.needed).toBe(1);
    expect(judge.judge(2n ** 60n - 1n, 1)).toBe(NBD_OK);
    expect(judge.judge(2n ** 60n - 2n, 4)).toBe(NBD_EIO);
    expect(judge.needed).toBe(2);
    expect(judge.reach).toBe(2n ** 60n - 1n);
    expect(judge.judge(UNBOUNDED_SIZE - 1n, 1)).toBe(NBD_OK);
    expect(judge.judge(UNBOUNDED_SIZE - 1n, 2)).toBe(NBD_EINVAL);
    expect(judge.judge(0, MIB)).toBe(NBD_OK);
  });

  test("across 2^53 is judged exactly", () => {
    const judge = rule(2 ** 53 - 1, { size: toOffset(UNBOUNDED_SIZE) });
    expect(judge.judge(2 ** 53 - 1, 10)).toBe(NBD_OK);
    judge.head = 2n ** 53n;
    expect(judge.judge(2 ** 53 - 1, 10)).toBe(NBD_EIO);
    expect(judge.windowFor(2 ** 53 - 1)).toBe(1);
  });
});

test("the disk has whole sectors", () => {
  const judge = rule(1000, { size: 1000 });
  expect(judge.advertised).toBe(1024);
  expect(judge.judge(1000, 24)).toBe(NBD_OK);
  expect(judge.judge(1000, 25)).toBe(NBD_EINVAL);
});

describe("the window that a READ takes", () => {
  test("is counted from the head, and only down to what is kept", () => {
    const judge = rule(5 * MIB);
    expect(judge.windowFor(4 * MIB)).toBe(MIB);
    expect(judge.windowFor(MIB)).toBe(4 * MIB);
    expect(judge.windowFor(0)).toBe(4 * MIB);
    expect(judge.windowFor(6 * MIB)).toBe(0);
    judge.head = MIB / 2;
    expect(judge.windowFor(0)).toBe(0);
  });

  test("is noted at its largest, but not that of a READ that is refused", () => {
    const judge = rule(50 * MIB, { window: 10 * MIB });
    for (const back of [3, 7, 5, 11]) judge.judge((50 - back) * MIB, 1);
    expect(judge.needed).toBe(7 * MIB);
  });

  test("reaches down to the start at the most", () => {
    expect(rule(100, { window: 1000 }).reach).toBe(0);
    expect(rule(1000, { window: 1000 }).reach).toBe(0);
    expect(rule(1001, { window: 1000 }).reach).toBe(1);
  });
});
