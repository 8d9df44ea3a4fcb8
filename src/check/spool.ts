/** `spool=`: whether a folder can have the file, and how much room there is. */
import { statfsSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { messageOf } from "../errors.ts";
import { FolderError, makeUnnamed } from "../files/unnamed.ts";
import type { ItemList } from "./report.ts";

/**
 * The folder that is tried and advised where the user names none: it is for large files (file-hierarchy(7)), and
 * on a disk where /tmp may be in memory.
 */
export const USUAL_FOLDER = "/var/tmp";

/** A folder for a spool, as it was found. */
export interface SpoolFolder {
  readonly path: string;
  /** Why it cannot have one, and what to do; undefined if it can. */
  readonly problem?: string;
  /** Why it can have one only for `--hold`. */
  readonly onlyHeld?: string;
  /** Bytes that are free. */
  readonly free: number;
}

/** Tries it with a file of a few bytes, of which nothing is left. */
export function inspectFolder(path: string): SpoolFolder {
  const problem = whyNot(path, false);
  if (problem !== undefined) return { path, problem, free: 0 };
  const onlyHeld = whyNot(path, true);
  const { bavail, bsize } = statfsSync(path);
  return { path, free: bavail * bsize, ...(onlyHeld !== undefined && { onlyHeld }) };
}

function whyNot(path: string, mustPunch: boolean): string | undefined {
  try {
    close(makeUnnamed(path, mustPunch).fd);
    return undefined;
  } catch (error) {
    if (!(error instanceof FolderError)) throw error;
    return `${path}: ${messageOf(error)}; ${error.hint}`;
  }
}

/** Adds what was found. @param size of the stream in bytes, if it is known */
export function addFolder(found: ItemList, folder: SpoolFolder, size?: bigint): void {
  const { path, problem, onlyHeld, free } = folder;
  if (problem !== undefined) return found.add("failed", "spool=", problem);
  const room = `${free} bytes are free in ${path}`;
  if (onlyHeld !== undefined) found.add("warning", "spool=", `only with --hold: ${onlyHeld}`);
  if (size === undefined || free >= size) found.add("ok", "spool=", room);
  else found.add("warning", "spool=", `${room}, fewer than the stream has`);
}
