import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { add, type Offset, subtract } from "../../src/protocol/offset.ts";
import { type Run, Runs } from "../../src/stream/runs.ts";
import { exploring } from "../support/exploring.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260404, 100);

/** The same set, the plain way: a note for every position from `base` on. */
class Model {
  readonly #has: boolean[];

  constructor(
    readonly base: Offset,
    readonly length: number,
  ) {
    this.#has = Array.from({ length }, () => false);
  }

  fill(start: number, end: number, value: boolean): void {
    this.#has.fill(value, start, end);
  }

  has(at: number): boolean {
    return this.#has[at] === true;
  }

  some(start: number, end: number): boolean {
    return this.#has.slice(start, end).includes(true);
  }

  every(start: number, end: number): boolean {
    return !this.#has.slice(start, end).includes(false);
  }

  /** The runs in [start, end). */
  runs(start = 0, end = this.length): Run[] {
    const runs: Run[] = [];
    for (let at = start; at < end; at++) {
      if (!this.has(at)) continue;
      const from = at;
      while (at < end && this.has(at)) at++;
      runs.push({ start: add(this.base, from), end: add(this.base, at) });
    }
    return runs;
  }

  get total(): number {
    return this.#has.filter(Boolean).length;
  }
}

const sum = (runs: readonly Run[]) =>
  runs.reduce((total, { start, end }) => total + Number(subtract(end, start)), 0);

function visited(runs: Runs, start: Offset, end: Offset): Run[] {
  const parts: Run[] = [];
  runs.each(start, end, (from, to) => parts.push({ start: from, end: to }));
  return parts;
}

/** All that can be asked, about the whole and about [start, end). */
function expectSame(runs: Runs, model: Model, start: number, end: number): void {
  const [from, to] = [add(model.base, start), add(model.base, end)];
  const all = model.runs();
  expect(visited(runs, model.base, add(model.base, model.length))).toEqual(all);
  expect(runs.count).toBe(all.length);
  expect(runs.isEmpty).toBe(all.length === 0);
  expect(runs.start).toBe(all[0]?.start as Offset);
  expect(runs.end).toBe(all.at(-1)?.end as Offset);
  expect(runs.total).toBe(sum(all));
  expect(runs.total).toBe(model.total);
  expect(visited(runs, from, to)).toEqual(model.runs(start, end));
  expect(runs.at(from)).toEqual(all.find((run) => run.end > from));
  expect(runs.countBelow(from)).toBe(all.filter((run) => run.end <= from).length);
  expect(runs.has(from)).toBe(model.has(start));
  const around = all.find((run) => run.start <= from && run.end > from);
  expect(runs.endAt(from)).toBe(around?.end as Offset);
  expect(runs.overlaps(from, to)).toBe(model.some(start, end));
  if (start < end) expect(runs.covers(from, to)).toBe(model.every(start, end));
}

const rangesBelow = (limit: number) =>
  fc.tuple(fc.nat(limit), fc.nat(limit)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const what = fc.constantFrom("add" as const, "remove" as const);

function apply(runs: Runs, model: Model, kind: "add" | "remove", start: number, end: number): void {
  runs[kind](add(model.base, start), add(model.base, end));
  model.fill(start, end, kind === "add");
}

describe("runs have what was added and not removed since", () => {
  const BASES = [0, 2 ** 53 - 12, 2n ** 62n];

  test.each(BASES)("whatever overlaps, from %s on", (base) => {
    const range = rangesBelow(24);
    const steps = fc.array(fc.tuple(what, range), { maxLength: 12 });
    const property = fc.property(steps, range, (script, [start, end]) => {
      const [runs, model] = [new Runs(), new Model(base, 25)];
      for (const [kind, [from, to]] of script) {
        apply(runs, model, kind, from, to);
        expectSame(runs, model, start, end);
      }
    });
    fc.assert(property, { seed: SEED, numRuns: 5 * RUNS });
  });

  test.each(BASES)("where there are thousands of them, from %s on", (base) => {
    const LENGTH = 6000;
    const near = fc
      .tuple(fc.nat(LENGTH - 10), fc.nat(9))
      .map(([at, length]) => [at, at + length] as const);
    const range = fc.oneof({ weight: 9, arbitrary: near }, rangesBelow(LENGTH));
    const steps = fc.array(fc.tuple(what, range), { maxLength: 20 });
    const property = fc.property(steps, range, fc.boolean(), (script, [start, end], reverse) => {
      const [runs, model] = [new Runs(), new Model(base, LENGTH + 10)];
      for (let i = 0; i < LENGTH; i += 4) {
        const at = reverse ? LENGTH - 4 - i : i;
        apply(runs, model, "add", at, at + 2);
      }
      for (const [kind, [from, to]] of script) apply(runs, model, kind, from, to);
      expectSame(runs, model, start, end);
      apply(runs, model, "remove", 0, start);
      expectSame(runs, model, start, end);
    });
    fc.assert(property, { seed: SEED, numRuns: RUNS / 4 });
  });

  test("in any order, until they are one", () => {
    const LENGTH = 5000;
    const [runs, model] = [new Runs(), new Model(0, LENGTH)];
    // Each place once, far from the one before.
    for (let i = 0; i < LENGTH; i++) {
      const at = (i * 2203) % LENGTH;
      apply(runs, model, "add", at, at + 1);
      if (i % 250 === 0) expectSame(runs, model, at, LENGTH);
    }
    expect(runs.count).toBe(1);
    expectSame(runs, model, 0, LENGTH);
  });
});
