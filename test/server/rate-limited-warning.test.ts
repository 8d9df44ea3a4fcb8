import { expect, test } from "bun:test";
import { RateLimitedWarning, type Timers } from "../../src/server/rate-limited-warning.ts";
import { told } from "../support/told.ts";

/** A clock that a test moves. */
class FakeTimers implements Timers {
  #now = 0;
  readonly #due = new Map<object, { readonly at: number; readonly action: () => void }>();

  set(action: () => void, milliseconds: number): object {
    const timer = {};
    this.#due.set(timer, { at: this.#now + milliseconds, action });
    return timer;
  }

  clear(timer: unknown): void {
    this.#due.delete(timer as object);
  }

  pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const next = [...this.#due].toSorted(([, one], [, other]) => one.at - other.at)[0];
      if (next === undefined || next[1].at > end) break;
      this.#now = next[1].at;
      this.#due.delete(next[0]);
      next[1].action();
    }
    this.#now = end;
  }

  get pending(): number {
    return this.#due.size;
  }
}

function repeats() {
  const lines: string[] = [];
  const timers = new FakeTimers();
  const warnings = new RateLimitedWarning(
    (line) => lines.push(told(line) as string),
    (count) => `${count} more`,
    timers,
  );
  let number = 0;
  return {
    timers,
    warnings,
    /** The lines since the last call. */
    get lines() {
      return lines.splice(0);
    },
    warn(times: number) {
      for (let i = 0; i < times; i++) warnings.warn(`warning ${++number}`);
    },
  };
}

test("a few warnings are told as they are, at once", () => {
  const told = repeats();
  told.warn(5);
  expect(told.lines).toEqual([1, 2, 3, 4, 5].map((n) => `warning ${n}`));
});

test("those beyond are counted, and told of in a line when a second is over", () => {
  const told = repeats();
  told.warn(1000);
  expect(told.lines).toHaveLength(5);
  told.timers.pass(999);
  expect(told.lines).toEqual([]);
  told.timers.pass(1);
  expect(told.lines).toEqual(["995 more"]);
  expect(told.timers.pending).toBe(1);
});

test("a flood has less than a line a second, and fewer the longer it lasts", () => {
  const told = repeats();
  let [lines, counted] = [0, 0];
  for (let second = 0; second < 3600; second++) {
    told.warn(100);
    const said = told.lines.filter((line) => line.endsWith("more"));
    expect(said.length).toBeLessThanOrEqual(1);
    lines += said.length;
    counted += said.reduce((sum, line) => sum + Number.parseInt(line), 0);
    told.timers.pass(1000);
  }
  expect(lines).toBeGreaterThan(50);
  expect(lines).toBeLessThan(70);
  told.warnings.end();
  const rest = told.lines.reduce((sum, line) => sum + Number.parseInt(line), 0);
  expect(counted + rest + 5).toBe(360_000);
});

test("after a quiet time the next few are told as they are again", () => {
  const told = repeats();
  told.warn(7);
  told.timers.pass(1000);
  expect(told.lines.at(-1)).toBe("2 more");
  told.timers.pass(2000);
  expect(told.timers.pending).toBe(0);
  told.warn(6);
  expect(told.lines).toEqual([8, 9, 10, 11, 12].map((n) => `warning ${n}`));
  told.timers.pass(1000);
  expect(told.lines).toEqual(["1 more"]);
});

test("at the end the rest is told of, once, and no timer is left", () => {
  const told = repeats();
  told.warn(8);
  expect(told.lines).toHaveLength(5);
  told.warnings.end();
  expect(told.lines).toEqual(["3 more"]);
  expect(told.timers.pending).toBe(0);
  told.warnings.end();
  expect(told.lines).toEqual([]);
});
