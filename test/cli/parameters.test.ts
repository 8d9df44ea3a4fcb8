import { describe, expect, test } from "bun:test";
import { parseParameters } from "../../src/cli/parameters.ts";
import { COMMAND_LINE } from "../../src/cli/vocabulary.ts";
import { usageErrorOf } from "../support/thrown.ts";

/** The message about bad words. */
const refusal = (...words: string[]) => usageErrorOf(() => parseParameters(words), COMMAND_LINE);

describe("the pipe", () => {
  test.each(["pipe", "write"])("may be given as %s=", (key) => {
    expect(parseParameters([`${key}=disk.fifo`])).toEqual({
      parameters: {
        endpoint: { pipe: "disk.fifo", read: undefined },
        direction: "write",
        spec: { kind: "path", path: "disk.fifo" },
        size: undefined,
        window: 0,
      },
      rest: [],
    });
  });

  test.each(["a=b", "=", "a b", "/ä/\n", "-x", "pipe=x"])("may be called %p", (path) => {
    expect(parseParameters([`pipe=${path}`]).parameters.spec).toEqual({ kind: "path", path });
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
  const spec = { kind: "path" as const, path: "x" };
  const endpoint = { pipe: "x", read: undefined };
  const parameters = { endpoint, direction: "write" as const, spec, size: 3n << 20n, window: 0 };
  expect(parseParameters(["pipe=x", "size=3M"]).parameters).toEqual(parameters);
  expect(parseParameters(["size=3M", "pipe=x"]).parameters).toEqual(parameters);
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
