/** The figures of the last run of each row, in a file from which the page is made. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Column, Row } from "../rows/row.ts";

/** One run of one program. */
export interface Run {
  seconds: number;
  cpuSeconds: number;
  serverCpuSeconds?: number;
  serverPeakBytes?: number;
}

export interface Measured {
  /** The size of the disk. */
  bytes: number;
  /** What it was measured with: see machine.ts. */
  facts: string[];
  /** In the order of the rounds, of all programs that were there. */
  runs: Partial<Record<Column, Run[]>>;
}

export interface Store {
  rows: Record<string, Measured>;
}

export async function readStore(path: string): Promise<Store> {
  return existsSync(path) ? ((await Bun.file(path).json()) as Store) : { rows: {} };
}

/** Only rows that still exist are kept. */
export async function writeStore(path: string, store: Store, rows: readonly Row[]): Promise<void> {
  const kept = rows.flatMap(({ name }) => {
    const measured = store.rows[name];
    return measured === undefined ? [] : [[name, measured] as const];
  });
  await writeFormatted(path, JSON.stringify({ rows: Object.fromEntries(kept) }));
}

/** Writes a file as `bun fmt` wants it. */
export async function writeFormatted(path: string, text: string): Promise<void> {
  await Bun.write(path, text);
  const fmt = Bun.spawn([process.execPath, "fmt", "--no-script", resolve(path)], {
    // Where the settings of the formatter are.
    cwd: import.meta.dir,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [said, status] = await Promise.all([new Response(fmt.stderr).text(), fmt.exited]);
  if (status !== 0) throw new Error(`${path} cannot be formatted: ${said.trim()}`);
}
