/** The figures with which README and docs/compared.md compare are those that were measured. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import measured from "../../bench/results/latest.json" with { type: "json" };
import { spread } from "../../bench/report/figures.ts";
import { ROOT } from "../support/program.ts";

interface Run {
  readonly seconds: number;
  readonly serverPeakBytes?: number;
}

type Rows = Record<string, { readonly runs: Record<string, readonly Run[]> }>;
const rows = measured.rows as unknown as Rows;

const read = (name: string) => readFileSync(join(ROOT, name), "utf8");

/** The cells of a page's tables, by the first of their row. */
function tableOf(page: string): Map<string, string[]> {
  const lines = read(page)
    .split("\n")
    .filter((line) => line.startsWith("| "));
  return new Map(
    lines.map((line) => {
      const [, name = "", ...cells] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
      return [name, cells];
    }),
  );
}

function seconds(row: string, column: string): string {
  return spread((rows[row]?.runs[column] ?? []).map((run) => run.seconds)).median.toFixed(2);
}

/** The smallest and the largest of all rows, in MiB. */
function memory(column: string): string {
  // It fills a window of 64 MiB, which comes on top.
  const { "spool-shuffle": _, ...others } = rows;
  const peaks = Object.values(others)
    .map(({ runs }) => (runs[column] ?? []).flatMap((run) => run.serverPeakBytes ?? []))
    .filter((bytes) => bytes.length > 0)
    .map((bytes) => Math.round(spread(bytes).median / 2 ** 20));
  return `${Math.min(...peaks)} to ${Math.max(...peaks)} MiB`;
}

function start(server: string): string {
  const [cell = ""] = tableOf("bench/results/start.md").get(server) ?? [];
  return `${Math.round(Number.parseFloat(cell))} ms`;
}

describe("the table of docs/compared.md", () => {
  const table = tableOf("docs/compared.md");
  const columns = ["ours", "nbdkit", "nbdcopy"];

  test.each([
    ["4 GiB of random data", ["unix"], columns],
    ["32 GiB, 99% zeroes", ["zero"], columns],
    ["requests of 16, 64 KiB", ["16k", "64k"], columns.slice(0, 2)],
  ])("has the seconds of %s", (name, measuredRows, measuredColumns) => {
    const cells = measuredColumns.map(
      (column) => `${measuredRows.map((row) => seconds(row, column)).join(", ")} s`,
    );
    expect(table.get(name)?.slice(0, cells.length)).toEqual(cells);
  });

  test("has the memory", () => {
    const [ours, nbdkit] = table.get("memory") ?? [];
    expect(ours).toStartWith(memory("ours"));
    expect(nbdkit).toBe(memory("nbdkit"));
  });

  test("has the time to the start", () => {
    const [ours, nbdkit] = table.get("start") ?? [];
    expect([ours, nbdkit]).toEqual([start("ours, compiled"), start("nbdkit")]);
  });
});

test("README has the seconds of random data", () => {
  const text = read("README.md");
  for (const column of ["ours", "nbdkit", "nbdcopy"]) {
    expect(text).toContain(`${seconds("unix", column)} s`);
  }
});

describe("docs/compared.md", () => {
  const table = tableOf("docs/compared.md");

  test("has ratios that were measured", () => {
    const text = read("bench/results/latest.md");
    const ratios = ["time,", "CPU time"].flatMap((start) =>
      [...table]
        .filter(([name]) => name.startsWith(start))
        .flatMap(([, cells]) => cells.join(" ").match(/(?<![\d.])[0-2]\.\d\d(?! s)/g) ?? []),
    );
    expect(ratios.length).toBeGreaterThan(8);
    for (const ratio of ratios) expect(text).toContain(`**${ratio}**`);
  });

  test("has seconds that were measured", () => {
    for (const row of ["unix", "zero"]) {
      for (const column of ["ours", "nbdkit", "nbdcopy"]) {
        expect(read("docs/compared.md")).toContain(`${seconds(row, column)} s`);
      }
    }
  });
});
