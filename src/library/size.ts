/** Sizes, also as nbdkit writes them (nbdkit(1), "size"). */
import { usageError } from "../errors.ts";
import { UNBOUNDED_SIZE } from "../protocol/export.ts";

/** Bytes; as text: a whole number with or without a suffix, see {@link parseSize}. */
export type Size = number | bigint | string;

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
  return limited(parameter, text, BigInt(digits) * (UNITS[suffix.toLowerCase()] as bigint));
}

/** As {@link parseSize}, where it may be a number already. @throws UserError ERR_USAGE */
export function toSize(parameter: string, size: Size): bigint {
  if (typeof size === "string") return parseSize(parameter, size);
  // A number that is not exact may have been another one.
  if (size < 0 || (typeof size === "number" && !Number.isSafeInteger(size))) {
    throw usageError(`${parameter}=${size} is not a size: give a whole number of bytes`);
  }
  return limited(parameter, size, BigInt(size));
}

function limited(parameter: string, size: Size, bytes: bigint): bigint {
  if (bytes <= UNBOUNDED_SIZE) return bytes;
  throw usageError(`${parameter}=${size} is too large: the most is 2^63 - 2^30 bytes`);
}

/** More memory than a window should take: a client that needs it does not stream. */
const MAX_WINDOW = 1n << 34n;

/** A size of memory. @throws UserError ERR_USAGE */
export function toWindow(size: Size): number {
  const bytes = toSize("window", size);
  if (bytes > MAX_WINDOW) throw usageError(`window=${size} is too large: the most is 16G`);
  return Number(bytes);
}
