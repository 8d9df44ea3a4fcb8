/**
 * `bun rows.child.ts FOLDER JSON` runs a row's check, or a script several times at once. Whoever runs these
 * adopts orphans, which the process of the tests must not.
 */
import { subjects } from "../../bench/programs/subjects.ts";
import { rows } from "../../bench/rows/index.ts";
import { BenchFiles } from "../../bench/run/files.ts";
import { atOnce, type Ends, type Outcome } from "../../bench/run/transfer.ts";
import { LIMIT } from "../support/limit.ts";

const MIB_OF_A_LARGE_DISK = 16;

export interface RowCheck {
  readonly row: string;
  /** In place of the row's own. */
  readonly client?: string;
}

export interface Scripts {
  /** For the shell; `$1` is a FIFO that cat reads. */
  readonly script: string;
  readonly streams: number;
}

async function main([folder = "", json = ""]: string[]): Promise<void> {
  const told = JSON.parse(json) as RowCheck | Scripts;
  const outcome = await ("row" in told ? check(told, folder) : runScripts(told, folder));
  console.log(outcome.output);
}

async function check({ row: name, client }: RowCheck, folder: string): Promise<Outcome> {
  const found = rows.find((row) => row.name === name);
  if (found === undefined) throw new Error(`there is no row ${name}`);
  const row = { ...found, ...(client !== undefined && { client }) };
  const files = await BenchFiles.make(folder, MIB_OF_A_LARGE_DISK);
  await files.prepare(row, []);
  const [ours] = subjects(row, files, undefined);
  if (ours === undefined) throw new Error("there is nothing to run");
  return await run(ours.checked, folder, row.streams ?? 1);
}

async function runScripts({ script, streams }: Scripts, folder: string): Promise<Outcome> {
  const ends: Ends = {
    program: ({ stream }) => ["sh", "-c", script, "sh", stream],
    other: (stream) => ["cat", stream],
  };
  return await run(ends, folder, streams);
}

async function run(ends: Ends, folder: string, streams: number): Promise<Outcome> {
  return await atOnce({ ...ends, folder, limitSeconds: LIMIT / 2000 }, streams);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  // At once, whatever still runs.
  process.exit(1);
}
