import { expect, test } from "bun:test";
import { cleaningUp } from "../src/clean-up.ts";

function throwing(message: string): () => unknown {
  return () => {
    throw new Error(message);
  };
}

test("all steps are taken in turn behind the work, whose value is returned", async () => {
  const done: string[] = [];
  const value = await cleaningUp(
    async () => {
      await Bun.sleep(1);
      done.push("work");
      return 7;
    },
    async () => {
      await Bun.sleep(1);
      done.push("first");
    },
    () => done.push("second"),
  );
  expect(value).toBe(7);
  expect(done).toEqual(["work", "first", "second"]);
});

type Step = () => unknown;

const CASES: [when: string, work: Step, step: Step, message: string][] = [
  ["the work throws", throwing("work"), throwing("step"), "work"],
  ["a step throws", () => 7, throwing("step"), "step"],
  ["a step rejects", () => 7, () => Promise.reject(new Error("step")), "step"],
];

test.each(CASES)(
  "when %s, the steps behind are taken, and the first error is thrown",
  async (_, work, step, message) => {
    const done: string[] = [];
    const note = (what: string) => () => void done.push(what);
    const all = cleaningUp(work, step, note("a"), throwing("another"), note("b"));
    await expect(all).rejects.toThrow(message);
    expect(done).toEqual(["a", "b"]);
  },
);
