/** Sizes as nbdkit writes them (nbdkit(1), "size"). */
import { usageError } from "../errors.ts";
import { UNBOUNDED_SIZE } from "../protocol/export.ts";

const UNITS: Record<string, bigint> = {
  "": 1n,
  b: 1n,
  s: 512n,
  k: 1n << 10n,
  m: 1n << 20n,
  g: 1n << 30n,
  t: 1n << 40n,
  p: 1n << 50n,
  e: 1n << 60n,
};

/**
 * Reads a size: a whole number of bytes, or one with a suffix in either case: `b` bytes, `s` sectors
 * of 512, `k M G T P E` powers of 1024.
 *
 * @param parameter what the user called it, for the message
 * @returns bytes, at most 2^63 - 2^30
 * @throws UserError ERR_USAGE
 */
export function parseSize(parameter: string, text: string): bigint {
  const match = /^([0-9]+)([bskmgtpe]?)$/i.exec(text);
  if (match === null) {
    throw usageError(
      `${parameter}=${text} is not a size: write a whole number and a suffix, such as 512M or 10G`,
    );
  }
  const [, digits = "", suffix = ""] = match;
  const bytes = BigInt(digits) * (UNITS[suffix.toLowerCase()] as bigint);
  if (bytes > UNBOUNDED_SIZE) {
    throw usageError(`${parameter}=${text} is too large: the most is 2^63 - 2^30 bytes`);
  }
  return bytes;
}
