/** What the runs of a row amount to. */
import type { Column, Row } from "../rows/row.ts";
import type { Measured, Run } from "./store.ts";

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export interface Result extends Measured {
  row: Row;
}

export type Figure = (run: Run) => number | undefined;

export const seconds: Figure = (run) => run.seconds;

/** CPU seconds of all that takes part. */
export const cpuOfAll: Figure = (run) => run.cpuSeconds;

export const cpuOfServer: Figure = (run) => run.serverCpuSeconds;

export const peakBytes: Figure = (run) => run.serverPeakBytes;

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

/** A spread as text: `1.90 (1.72 to 2.53)`. */
export function spreadText({ median, min, max }: Spread, digits: number): string {
  return `${median.toFixed(digits)} ${rangeText({ min, max }, digits)}`;
}

/** A ratio as text, with what its median is measured by: `**1.02** (0.94 to 1.11), goal 1.10 met`. */
export function goalText(values: Spread | undefined, goal: number | undefined): string {
  const wanted = goal === undefined ? "" : `, goal ${goal.toFixed(2)}`;
  if (values === undefined) return `-${wanted}`;
  const { median } = values;
  const verdict = goal === undefined ? "" : `${wanted} ${median <= goal ? "met" : "missed"}`;
  return `**${median.toFixed(2)}** ${rangeText(values, 2)}${verdict}`;
}

/** Its ends alone: `(1.72 to 2.53)`. */
function rangeText({ min, max }: Omit<Spread, "median">, digits: number): string {
  return `(${min.toFixed(digits)} to ${max.toFixed(digits)})`;
}

/** `undefined` unless every run of that program has the figure. */
export function figures(result: Result, column: Column, figure: Figure): number[] | undefined {
  const values = result.runs[column]?.map((run) => figure(run)) ?? [];
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 && known.length === values.length ? known : undefined;
}

/** Ours divided by the other's, run by run: what slows a round down slows both. */
export function ratio(result: Result, other: Column, figure: Figure): Spread | undefined {
  const ours = figures(result, "ours", figure);
  const theirs = figures(result, other, figure);
  if (ours === undefined || theirs === undefined) return undefined;
  const ratios = ours.map((own, round) => own / (theirs[round] ?? Number.NaN));
  // A run that is too short for the clock has no ratio.
  return ratios.every(Number.isFinite) ? spread(ratios) : undefined;
}

/** True when a median is above its goal. */
export function missed(result: Result): boolean {
  const { nbdkit, limit, plain, file, cpu } = result.row.goals ?? {};
  const above = (goal: number | undefined, other: Column, figure: Figure) =>
    goal !== undefined && (ratio(result, other, figure)?.median ?? 0) > goal;
  return (
    above(nbdkit, "nbdkit", seconds) ||
    above(limit, "limit", seconds) ||
    above(plain, "plain", seconds) ||
    above(file, "file", seconds) ||
    above(cpu, "nbdkit", cpuOfServer)
  );
}
