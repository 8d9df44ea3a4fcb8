/** The figures as a Markdown page. */
import { type Column, COLUMNS, GIB, MIB } from "../rows/row.ts";
import {
  cpuOfAll,
  cpuOfServer,
  type Figure,
  figures,
  goalText,
  peakBytes,
  ratio,
  type Result,
  seconds,
  spread,
  spreadText,
} from "./figures.ts";
import { markdownList, markdownTable } from "./markdown.ts";

/** The columns of the first table. */
const RATIOS = [
  { head: "time, ours / nbdkit", other: "nbdkit", figure: seconds, goal: "nbdkit" },
  { head: "ours / limit", other: "limit", figure: seconds, goal: "limit" },
  { head: "ours / nbdcopy", other: "nbdcopy", figure: seconds, goal: undefined },
  { head: "ours / cat", other: "cat", figure: seconds, goal: undefined },
  { head: "ours / plain", other: "plain", figure: seconds, goal: "plain" },
  { head: "ours / file", other: "file", figure: seconds, goal: "file" },
  { head: "server's CPU, ours / nbdkit", other: "nbdkit", figure: cpuOfServer, goal: "cpu" },
] as const;

/** Below it, a hundredth of a second is a large part. */
const FEW_SECONDS = 0.5;

const SERVERS = ["ours", "nbdkit"] as const;

/** @param plot the file name of the plot */
export function page(results: readonly Result[], plot: string): string {
  return `# Benchmark

![Time of ours divided by the time of nbdkit, row by row](${plot})

Ratios: below 1, ours takes less time. The median, the smallest and the largest of the rounds, and the goal. What the rows
and the columns are is in [README.md](../README.md).

${ratioTable(results)}
## Seconds

From the start of the program to the end of all that takes part.

${secondsTable(results)}
## CPU and memory

CPU seconds, user and system: of the server without its client, and of all that takes part, the client and the other end of
the FIFO included. Peak resident size of the server, in MiB.

${cpuTable(results)}
${footer(results)}`;
}

export function ratioTable(results: readonly Result[]): string {
  const lines = results.map((result) => [
    `\`${result.row.name}\`: ${result.row.title}`,
    ...RATIOS.map(({ other, figure, goal }) => {
      const wanted = goal === undefined ? undefined : result.row.goals?.[goal];
      return goalText(ratio(result, other, figure), wanted);
    }),
  ]);
  return markdownTable(["row", ...RATIOS.map(({ head }) => head)], lines);
}

export function secondsTable(results: readonly Result[]): string {
  const head = ["row", "disk", "runs", ...COLUMNS];
  const lines = results.map((result) => [
    `\`${result.row.name}\``,
    size(result),
    String(figures(result, "ours", seconds)?.length ?? 0),
    ...COLUMNS.map((column) => show(result, column, seconds)),
  ]);
  return markdownTable(head, lines);
}

export function cpuTable(results: readonly Result[]): string {
  const head = [
    "row",
    ...SERVERS.map((column) => `server, ${column}`),
    ...COLUMNS.map((column) => `all, ${column}`),
    ...SERVERS.map((column) => `peak MiB, ${column}`),
  ];
  const lines = results.map((result) => [
    `\`${result.row.name}\``,
    ...SERVERS.map((column) => show(result, column, cpuOfServer, 2)),
    ...COLUMNS.map((column) => show(result, column, cpuOfAll, 2)),
    ...SERVERS.map((column) => show(result, column, peakMib, 1)),
  ]);
  return markdownTable(head, lines);
}

/** Rows that were measured at other times may have been measured with something else. */
function footer(results: readonly Result[]): string {
  const groups = Map.groupBy(results, ({ facts }) => markdownList(facts));
  if (groups.size === 1) return [...groups.keys()].join("");
  return [...groups]
    .map(([facts, group]) => `${group.map(({ row }) => `\`${row.name}\``).join(", ")}:\n\n${facts}`)
    .join("\n");
}

const peakMib: Figure = (run) => {
  const peak = peakBytes(run);
  return peak === undefined ? undefined : peak / MIB;
};

/** @param digits more of them for small figures if nothing is said */
function show(result: Result, column: Column, figure: Figure, digits?: number): string {
  const values = figures(result, column, figure);
  if (values === undefined) return "-";
  const its = spread(values);
  return spreadText(its, digits ?? (its.median < FEW_SECONDS ? 3 : 2));
}

function size({ row, bytes }: Result): string {
  const one = bytes < GIB ? `${bytes / MIB} MiB` : `${bytes / GIB} GiB`;
  return row.streams === undefined ? one : `${row.streams} × ${one}`;
}
