/** Compares files by device and inode. */
import { type BigIntStats, fstatSync, statSync } from "node:fs";

const BIG = { bigint: true } as const;

/**
 * True when both are the same file, under any name; false when one of them cannot be examined.
 *
 * @param one a path or a descriptor
 */
export function isSameFile(one: string | number, other: string | number): boolean {
  try {
    const [a, b] = [statOf(one), statOf(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}

function statOf(file: string | number): BigIntStats {
  return typeof file === "number" ? fstatSync(file, BIG) : statSync(file, BIG);
}
