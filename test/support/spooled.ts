/** Streams with a folder for what is not streamed yet: `spool=`, and `--hold`. */
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import type { RawClient } from "./nbd-client.ts";
import { eventually } from "./program.ts";
import { DATA, type Trial } from "./trial.ts";

/** The trial's own folder, which is to be empty at the end, as its program names it. */
const FOLDER = "../own";

/** Options with which everything that is ahead of its turn, or everything at all, goes into {@link FOLDER}. */
export const SPOOL = [`spool=${FOLDER}`, "window=0", `size=${DATA.length}`];
export const HOLD = [`spool=${FOLDER}`, "--hold", `size=${DATA.length}`];

export const MODES = [
  { mode: "spool=", args: SPOOL },
  { mode: "--hold", args: HOLD },
] as const;

/** A half of the disk, in bytes. */
export const HALF = DATA.length / 2;

/**
 * Writes the second half of the disk, which has to wait for the first.
 *
 * @param piece bytes of a WRITE
 * @returns the first error, or 0
 */
export async function writeAhead(client: RawClient, piece = 1 << 20): Promise<number> {
  return await writePart(client, HALF, DATA.length, piece);
}

/** Writes [from, to) of the disk. @returns the first error, or 0 */
export async function writePart(
  client: RawClient,
  from: number,
  to: number,
  piece = 1 << 20,
): Promise<number> {
  for (let at = from; at < to; at += piece) {
    const error = await client.write(at, DATA.subarray(at, Math.min(at + piece, to)));
    if (error !== 0) return error;
  }
  return 0;
}

/** The name under which a program has a file without a name open in a folder, without " (deleted)". */
export async function spoolPath(pid: number, folder: string): Promise<string> {
  let path: string | undefined;
  const find = () => {
    path = openFiles(pid).find((one) => one.startsWith(`${folder}/`) && one.endsWith(DELETED));
    return path !== undefined;
  };
  await eventually(find, `a file in ${folder}`);
  return (path as string).slice(0, -DELETED.length);
}

const DELETED = " (deleted)";

function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((fd) => {
    try {
      return [readlinkSync(`${folder}/${fd}`)];
    } catch {
      return [];
    }
  });
}

/** Shell words of a command that leaves a mark when it is started, and commits at the end of its input. */
export const MARKED = "touch started; cat > part; echo committed > done";

/** What there is to see of {@link MARKED} in a trial. */
export function wasStarted(trial: Trial): boolean {
  return existsSync(trial.file("started"));
}

/** Makes a folder's file system write what it has in memory, which may fail. */
export function syncAll(path: string): void {
  Bun.spawnSync(["sync", "-f", path]);
}
