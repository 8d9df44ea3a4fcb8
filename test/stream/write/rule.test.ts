import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../../src/protocol/offset.ts";
import { SequentialRule } from "../../../src/stream/write/rule.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

/** The rule for a stream without an end. */
const endless = () => new SequentialRule(toOffset(UNBOUNDED_SIZE));

function write(rule: SequentialRule, offset: Offset, length: number): number {
  const error = rule.planWrite(offset, length);
  if (error === NBD_OK) rule.claim();
  return error;
}

describe("a write", () => {
  test("at the head moves the head by its length", () => {
    const rule = endless();
    expect(write(rule, 0, 10)).toBe(NBD_OK);
    expect(rule.plan).toMatchObject({ gap: 0, emit: 10, tail: 0 });
    expect(rule.head).toBe(10);
    expect(rule.pending).toBe(10);
  });

  test("past the head plans the gap", () => {
    const rule = endless();
    expect(write(rule, 100, 10)).toBe(NBD_OK);
    expect(rule.plan).toMatchObject({ gap: 100, emit: 10, tail: 0 });
    expect(rule.head).toBe(110);
  });

  test("below the head is EIO and changes nothing", () => {
    const rule = endless();
    write(rule, 0, 10);
    expect(write(rule, 9, 1)).toBe(NBD_EIO);
    expect(rule.head).toBe(10);
  });

  test("is only judged by planWrite", () => {
    const rule = endless();
    expect(rule.planWrite(5, 5)).toBe(NBD_OK);
    expect(rule.head).toBe(0);
  });

  test("that ends past the end is ENOSPC, wherever the head is", () => {
    const rule = new SequentialRule(1024);
    expect(write(rule, 1024, 1)).toBe(NBD_ENOSPC);
    expect(write(rule, 0, 1025)).toBe(NBD_ENOSPC);
    expect(write(rule, 2n ** 64n - 1n, 2 ** 32 - 1)).toBe(NBD_ENOSPC);
    expect(write(rule, 0, 1024)).toBe(NBD_OK);
  });

  test("far beyond 2^53 is exact", () => {
    const rule = endless();
    const far = 2n ** 60n + 1n;
    expect(write(rule, far, 1)).toBe(NBD_OK);
    expect(rule.plan.gap).toBe(far);
    expect(rule.head).toBe(far + 1n);
    expect(write(rule, far, 1)).toBe(NBD_EIO);
    expect(write(rule, far + 1n, 1)).toBe(NBD_OK);
    expect(rule.plan.gap).toBe(0);
  });

  test("across 2^53 keeps offsets in their one form", () => {
    const rule = endless();
    expect(write(rule, 2 ** 53 - 2, 1)).toBe(NBD_OK);
    expect(rule.head).toBe(2 ** 53 - 1);
    expect(write(rule, rule.head, 1)).toBe(NBD_OK);
    expect(rule.head).toBe(2n ** 53n);
  });

  test("behind a gap has a window in which it would be in time, and before it none", () => {
    const rule = new SequentialRule(1000);
    const write = (offset: number, length: number) => {
      rule.planWrite(offset, length);
      rule.claim();
    };
    write(0, 100);
    expect(rule.windowFor(50)).toBeUndefined();
    write(300, 100);
    expect(rule.windowFor(100)).toBe(300);
    expect(rule.windowFor(350)).toBe(50);
    expect(rule.windowFor(99)).toBeUndefined();
    rule.rewind(300);
    expect(rule.windowFor(50)).toBeUndefined();
    write(200, 100);
    expect(rule.windowFor(100)).toBe(200);
  });

  test("is cut at a size within a sector, and its tail is told", () => {
    const rule = new SequentialRule(1000);
    expect(write(rule, 0, 1024)).toBe(NBD_OK);
    expect(rule.plan).toMatchObject({ gap: 0, emit: 1000, tail: 24 });
    expect(rule.head).toBe(1000);
  });

  test("only in a sector's rest emits nothing, but lengthens the stream", () => {
    const rule = new SequentialRule(1000);
    expect(write(rule, 1010, 14)).toBe(NBD_OK);
    expect(rule.plan).toMatchObject({ gap: 0, emit: 0, tail: 14 });
    expect(rule.head).toBe(0);
    expect(rule.pending).toBe(1000);
  });
});

describe("zeroes", () => {
  test("only raise what is pending", () => {
    const rule = endless();
    expect(rule.zero(0, 1000)).toBe(NBD_OK);
    expect(rule.zero(10, 20)).toBe(NBD_OK);
    expect(rule.head).toBe(0);
    expect(rule.pending).toBe(1000);
  });

  test("let data land among them", () => {
    const rule = endless();
    rule.zero(0, 1000);
    expect(write(rule, 500, 10)).toBe(NBD_OK);
    expect(rule.plan.gap).toBe(500);
    expect(rule.pending).toBe(1000);
  });

  test("below the head are EIO, past the end ENOSPC", () => {
    const rule = new SequentialRule(1024);
    write(rule, 0, 10);
    expect(rule.zero(9, 100)).toBe(NBD_EIO);
    expect(rule.zero(1000, 100)).toBe(NBD_ENOSPC);
  });

  test("stop at a size within a sector", () => {
    const rule = new SequentialRule(1000);
    expect(rule.zero(0, 1024)).toBe(NBD_OK);
    expect(rule.pending).toBe(1000);
  });
});

describe("a read", () => {
  test("is admitted from the head on, and EINVAL past the end", () => {
    const rule = new SequentialRule(1024);
    write(rule, 0, 10);
    expect(rule.read(10, 1014)).toBe(NBD_OK);
    expect(rule.read(9, 1)).toBe(NBD_EIO);
    expect(rule.read(10, 1015)).toBe(NBD_EINVAL);
  });
});

describe("a fill", () => {
  test("gives what is missing, once", () => {
    const rule = new SequentialRule(1000);
    write(rule, 0, 10);
    expect(rule.fill(1000)).toBe(990);
    expect(rule.fill(1000)).toBe(0);
    expect(rule.head).toBe(1000);
  });
});
