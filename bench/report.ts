/** The figures as a Markdown page. It names no host and no path. */
import { release, totalmem } from "node:os";
import type { Peer } from "./peer.ts";
import type { Row } from "./rows.ts";
import { command, GIB, MIB } from "./scratch.ts";
import { COLUMNS, type Column } from "./subjects.ts";
import type { Outcome } from "./transfer.ts";

export interface Result {
  row: Row;
  /** In the order of the runs. */
  outcomes: Map<Column, Outcome[]>;
}

interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(values: number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

type Figure = "seconds" | "cpuSeconds";

/** How many times as much `other` took as ours, run by run: what slows a round down slows both. */
export function ratio(result: Result, other: Column, figure: Figure): Spread | undefined {
  const ours = figures(result, "ours", figure);
  const theirs = figures(result, other, figure);
  if (ours === undefined || theirs === undefined) return undefined;
  return spread(ours.map((own, round) => (theirs[round] ?? Number.NaN) / own));
}

function figures({ outcomes }: Result, column: Column, figure: Figure): number[] | undefined {
  return outcomes.get(column)?.map((outcome) => outcome[figure]);
}

export function table(results: Result[]): string {
  const head = [
    "row",
    "ours / nbdkit (speed)",
    "goal",
    "nbdkit / ours (CPU)",
    "ours / cat (speed)",
    ...COLUMNS.map((column) => `${column}, s`),
    ...COLUMNS.map((column) => `${column}, CPU s`),
  ];
  const lines = results.map((result) => [
    `\`${result.row.name}\`: ${result.row.title}`,
    show(ratio(result, "nbdkit", "seconds"), "x"),
    goal(result),
    show(ratio(result, "nbdkit", "cpuSeconds"), "x"),
    show(ratio(result, "cat", "seconds"), "x"),
    ...COLUMNS.map((column) => spreadOf(result, column, "seconds")),
    ...COLUMNS.map((column) => spreadOf(result, column, "cpuSeconds")),
  ]);
  return markdownTable(head, lines);
}

function spreadOf(result: Result, column: Column, figure: Figure): string {
  const values = figures(result, column, figure);
  return show(values && spread(values), "");
}

function goal(result: Result): string {
  const { goal: share } = result.row;
  if (share === undefined) return "-";
  const reached = ratio(result, "nbdkit", "seconds")?.median;
  const wanted = `${(1 / share).toFixed(2)}x`;
  if (reached === undefined) return wanted;
  return `${wanted}, ${reached * share >= 1 ? "met" : "missed"}`;
}

/** Padded as `bun fmt` would do it; every column but the first holds figures. */
export function markdownTable(head: string[], lines: string[][]): string {
  const widths = head.map((_, column) =>
    Math.max(3, ...[head, ...lines].map((cells) => cells[column]?.length ?? 0)),
  );
  const line = (cells: string[]) => `| ${cells.join(" | ")} |\n`;
  const padded = (cells: string[]) =>
    line(
      cells.map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      }),
    );
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  return padded(head) + line(rule) + lines.map(padded).join("");
}

function show(values: Spread | undefined, unit: string): string {
  if (values === undefined) return "-";
  const { median, min, max } = values;
  const bold = unit === "" ? "" : "**";
  return `${bold}${median.toFixed(2)}${unit}${bold} (${min.toFixed(2)} to ${max.toFixed(2)})`;
}

export async function page(
  results: Result[],
  { mib, runs, peer }: { mib: number; runs: number; peer: Peer | undefined },
): Promise<string> {
  return `# Benchmark

${table(results)}
Medians of ${runs} interleaved runs with minimum and maximum, ${mib} MiB each (\`read-4k\`: at most 512);
a ratio above 1 means that ours is faster or takes less CPU time. The goal of 2x is half of nbdkit's time.
The method is in [README.md](../README.md).

${await machine(peer)}`;
}

/** What the figures were measured with. */
export async function machine(peer?: Peer): Promise<string> {
  const qemu = /version (\S+)/.exec(await command(["qemu-img", "--version"]))?.[1] ?? "unknown";
  const facts = [
    `Machine: ${navigator.hardwareConcurrency} cores, ${(totalmem() / GIB).toFixed(0)} GiB of memory`,
    `Kernel: ${process.platform} ${release()}, ${process.arch}`,
    `Bun ${Bun.version}`,
    `qemu-img ${qemu}`,
  ];
  if (peer !== undefined) facts.push(`nbdkit ${peer.version}`);
  return facts.map((fact) => `- ${fact}\n`).join("");
}

export function mibPerSecond(bytes: number, seconds: number): string {
  return `${(bytes / MIB / seconds).toFixed(0)} MiB/s`;
}
