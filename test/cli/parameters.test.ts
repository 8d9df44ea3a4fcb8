import { describe, expect, test } from "bun:test";
import { parseParameters } from "../../src/cli/parameters.ts";
import { COMMAND_LINE } from "../../src/cli/vocabulary.ts";
import { resolveServe } from "../../src/library/options.ts";
import { usageErrorOf } from "../support/thrown.ts";

/** The message about bad words, whoever looks at them. */
const refusal = (...words: string[]) =>
  usageErrorOf(() => resolveServe(parseParameters(words).parameters), COMMAND_LINE);

describe("the pipe", () => {
  test.each(["pipe", "write"])("may be given as %s=", (key) => {
    const { parameters, rest } = parseParameters([`${key}=disk.fifo`]);
    expect(parameters).toEqual({ pipe: "disk.fifo" });
    expect(rest).toEqual([]);
    expect(resolveServe(parameters)).toMatchObject({
      direction: "write",
      spec: { kind: "path", path: "disk.fifo" },
      size: undefined,
      window: 0,
    });
  });

  test.each(["a=b", "=", "a b", "/ä/\n", "-x", "pipe=x"])("may be called %p", (path) => {
    const { parameters } = parseParameters([`pipe=${path}`]);
    expect(resolveServe(parameters).spec).toEqual({ kind: "path", path });
  });

  test("has to be there", () => {
    expect(refusal()).toStartWith("pipe=SINK is missing");
    expect(refusal("size=1M")).toStartWith("pipe=SINK is missing");
  });

  test("is not given under both names", () => {
    expect(refusal("pipe=a", "write=a")).toContain("are the same parameter");
  });
});

test("the size is in bytes, before or after the pipe", () => {
  for (const words of [
    ["pipe=x", "size=3M"],
    ["size=3M", "pipe=x"],
  ]) {
    const { parameters } = parseParameters(words);
    expect(parameters).toEqual({ pipe: "x", size: "3M" });
    const spec = { kind: "path", path: "x" };
    expect(resolveServe(parameters)).toMatchObject({ spec, size: 3n << 20n, window: 0 });
  }
});

test("a bad size is an error", () => {
  expect(refusal("pipe=x", "size=much")).toStartWith("size=much is not a size");
});

test("other words come back in their order", () => {
  const words = ["disk.qcow2", "pipe=x", "=x", "a b=c", "A=b", "./a=b", "1=2", ""];
  expect(parseParameters(words).rest).toEqual(words.filter((word) => word !== "pipe=x"));
});

test.each([
  ["pipe=", "pipe= needs a value"],
  ["write=", "write= needs a value"],
  ["size=", "size= needs a value"],
])("%s without a value is an error", (word, message) => {
  expect(refusal(word)).toBe(message);
});

test.each([
  [["pipe=a", "pipe=a"], "pipe= is given twice"],
  [["write=a", "write=b"], "write= is given twice"],
  [["pipe=a", "size=1", "size=1"], "size= is given twice"],
])("%p is an error", (words, message) => {
  expect(refusal(...words)).toBe(message);
});

test.each(["reads", "pip", "pipes", "a-b", "a_b1", "constructor"])("%s= is unknown", (key) => {
  expect(refusal("pipe=x", `${key}=1`)).toStartWith(`unknown parameter ${key}=: `);
});
