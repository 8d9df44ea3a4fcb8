/** The command line of `bun run bench`. */
import { existsSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { rows } from "../rows/index.ts";
import { DEFAULT_MIB, type Row } from "../rows/row.ts";
import { positive } from "./positive.ts";

/** The results that the project shows. */
export const RESULTS = join(import.meta.dir, "../results");

export const USAGE = `Usage: bun run bench [--runs N] [--size MiB] [--row NAME]... [--save] [--results FOLDER]

  --runs N          measured runs of each program (default: 5)
  --size MiB        size of a large disk, the others in proportion (default: ${DEFAULT_MIB}); with another
                    size, nothing is saved in bench/results
  --row NAME        only this row, and only on stdout
  --save            put these rows into the results, too; all rows are always saved
  --results FOLDER  save in this folder (default: bench/results)

Rows: ${rows.map((row) => row.name).join(", ")}
`;

export interface Options {
  runs: number;
  mib: number;
  chosen: Row[];
  /** The folder of the results; `undefined` if nothing is to be saved. */
  results: string | undefined;
}

/**
 * @returns `undefined` if the usage is wanted
 * @throws Error for what it does not understand
 */
export function options(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      runs: { type: "string", default: "5" },
      size: { type: "string", default: String(DEFAULT_MIB) },
      row: { type: "string", multiple: true },
      save: { type: "boolean", default: false },
      results: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const unknown = values.row?.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}`);
  const mib = positive("--size", values.size);
  return {
    runs: positive("--runs", values.runs),
    mib,
    chosen: rows.filter((row) => values.row?.includes(row.name) ?? true),
    results: resultsFolder(values, mib),
  };
}

interface Saving {
  row?: string[];
  save: boolean;
  results?: string;
}

function resultsFolder({ row, save, results }: Saving, mib: number): string | undefined {
  const folder = results ?? RESULTS;
  // A page with disks of several sizes would compare what cannot be compared.
  if (mib !== DEFAULT_MIB && isSame(folder, RESULTS)) {
    if (save)
      throw new Error("--save needs the default --size, or a folder of its own (--results)");
    return undefined;
  }
  return save || results !== undefined || row === undefined ? folder : undefined;
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) =>
    existsSync(path) ? realpathSync(path) : resolve(path),
  );
  return a === b;
}
