/** The figures as a Markdown page. It names no host and no path. */
import { release, totalmem } from "node:os";
import type { Peer } from "./peer.ts";
import { COLUMNS, type Column, type Row } from "./rows.ts";
import { command, GIB, MIB } from "./scratch.ts";

export interface Result {
  row: Row;
  /** Seconds per run, in the order of the runs. */
  seconds: Map<Column, number[]>;
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

/** How many times as fast as `other` ours was, run by run: what slows a round down slows both. */
export function speedup({ seconds }: Result, other: Column): Spread | undefined {
  const ours = seconds.get("ours");
  const theirs = seconds.get(other);
  if (ours === undefined || theirs === undefined) return undefined;
  return spread(ours.map((own, round) => (theirs[round] ?? Number.NaN) / own));
}

export function table(results: Result[]): string {
  const head = [
    "row",
    "ours / nbdkit (speed)",
    "ours / cat (speed)",
    ...COLUMNS.map((column) => `${column}, s`),
  ];
  const lines = results.map((result) => [
    `\`${result.row.name}\`: ${result.row.title}`,
    show(speedup(result, "nbdkit"), "x"),
    show(speedup(result, "cat"), "x"),
    ...COLUMNS.map((column) => {
      const values = result.seconds.get(column);
      return show(values && spread(values), "");
    }),
  ]);
  return markdownTable(head, lines);
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
Medians of ${runs} interleaved runs with minimum and maximum, ${mib} MiB each; a ratio above 1 means that
ours is faster. The method is in [README.md](../README.md).

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
