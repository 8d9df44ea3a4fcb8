import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../../src/protocol/offset.ts";
import type { SpoolFile } from "../../../src/stream/spool-file.ts";
import { SequentialRule } from "../../../src/stream/write/rule.ts";
import { Window } from "../../../src/stream/write/window.ts";
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

describe("where a gap is a hole only at the end", () => {
  /** A rule with room for everything, in memory; the spool is never asked for anything. */
  const spooling = (size = 1_000_000) => {
    const spool = {} as SpoolFile;
    return new SequentialRule(size, new Window(1 << 20, { spool }));
  };
  const nowhere = { pushBytes() {}, pushFile() {} };

  /** A WRITE, and all that can be emitted after it. @returns the gaps before what was emitted */
  function write(rule: SequentialRule, offset: number, length: number): number[] {
    expect(rule.planWrite(offset, length)).toBe(NBD_OK);
    const { plan } = rule;
    const gaps: number[] = [];
    if (plan.kind === "hold") {
      rule.reserve(offset, offset + length);
      rule.window?.hold(offset, offset + length);
    } else {
      expect(plan.kind).toBe("emit");
      gaps.push(Number(plan.gap));
      rule.claim();
    }
    while (rule.windowIsNext) gaps.push(Number(rule.advance(nowhere)));
    return gaps;
  }

  test("data behind a gap waits, however far it is", () => {
    const rule = spooling();
    expect(write(rule, 500_000, 100)).toEqual([]);
    expect(rule.head).toBe(0);
    expect(write(rule, 0, 499_999)).toEqual([0]);
    expect(write(rule, 499_999, 1)).toEqual([0, 0]);
    expect(rule.head).toBe(500_100);
  });

  test("zeroes that a client has asked for fill it, in any number of parts", () => {
    const rule = spooling();
    expect(write(rule, 300, 100)).toEqual([]);
    expect(rule.zero(200, 100)).toBe(NBD_OK);
    expect(rule.windowIsNext).toBeFalse();
    expect(rule.zero(0, 150)).toBe(NBD_OK);
    expect(rule.windowIsNext).toBeFalse();
    expect(rule.zero(150, 50)).toBe(NBD_OK);
    expect(rule.windowIsNext).toBeTrue();
    expect(rule.advance(nowhere)).toBe(300);
    expect(rule.head).toBe(400);
    expect(write(rule, 400, 100)).toEqual([0]);
    rule.zero(500, 50);
    expect(write(rule, 550, 50)).toEqual([50]);
    expect(rule.head).toBe(600);
  });

  test("they do not where only a part of it was asked for", () => {
    const rule = spooling();
    rule.zero(0, 199);
    expect(write(rule, 200, 100)).toEqual([]);
    expect(rule.head).toBe(0);
    expect(write(rule, 199, 1)).toEqual([199, 0]);
  });

  test("a client that writes into its zeroes behind a gap zeroes first, and fills no gap with any", () => {
    const rule = spooling();
    rule.zero(0, 1_000_000);
    expect(write(rule, 600, 100)).toEqual([]);
    expect(rule.head).toBe(0);
    rule.zero(0, 600);
    expect(rule.windowIsNext).toBeFalse();
    expect(write(rule, 300, 300)).toEqual([]);
    expect(write(rule, 0, 300)).toEqual([0, 0]);
    expect(rule.head).toBe(700);
    expect(rule.end).toBe(1_000_000);
  });

  test("a client that writes into its zeroes in order may go on doing so", () => {
    const rule = spooling();
    rule.zero(0, 1000);
    expect(write(rule, 0, 512)).toEqual([0]);
    expect(write(rule, 512, 88)).toEqual([0]);
    // The rest of its zeroes is the gap.
    expect(write(rule, 1000, 100)).toEqual([400]);
    expect(rule.head).toBe(1100);
    expect(rule.zero(700, 200)).toBe(NBD_OK);
    expect(rule.zero(500, 300)).toBe(NBD_EIO);
  });

  test("what was taken back of zeroes fills the gap again", () => {
    const rule = spooling();
    rule.zero(0, 100);
    rule.zero(150, 100);
    expect(write(rule, 100, 50)).toEqual([100]);
    expect(write(rule, 250, 50)).toEqual([100]);
    rule.rewind(300);
    expect(rule.head).toBe(0);
    expect(rule.pending).toBe(250);
    expect(write(rule, 250, 50)).toEqual([]);
    expect(write(rule, 100, 50)).toEqual([100, 100]);
    expect(rule.head).toBe(300);
  });

  test("a WRITE below the head is late, and no window would have helped", () => {
    const rule = spooling();
    rule.zero(0, 100);
    write(rule, 100, 50);
    expect(rule.planWrite(50, 10)).toBe(NBD_EIO);
    expect(rule.windowFor(50)).toBeUndefined();
  });

  test("a WRITE to the end of a sector fills its gap like any other", () => {
    const rule = spooling(1000);
    rule.zero(0, 900);
    expect(rule.planWrite(900, 124)).toBe(NBD_OK);
    expect(rule.plan).toMatchObject({ kind: "emit", gap: 900, emit: 100, tail: 24 });
    rule.claim();
    expect([rule.head, rule.end]).toEqual([1000, 1000]);
  });
});
