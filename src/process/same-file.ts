/** Files by what they are, and not by their names. */
import { type BigIntStats, fstatSync, statSync } from "node:fs";

const BIG = { bigint: true } as const;

/**
 * True when both are the very same file, by whatever name; false where one cannot be looked at.
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
