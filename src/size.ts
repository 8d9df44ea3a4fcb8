/** Sizes as the user writes them, also as nbdkit does (nbdkit(1), "size"), and the limits of `window=`. */

/** Bytes; as text: a whole number with or without a suffix, see {@link parseSize}. */
export type Size = number | bigint | string;

/** The largest `window=`, in bytes: a client that needs more memory than that does not stream. */
export const LARGEST_WINDOW = 2 ** 34;

/**
 * The least `window=` to advise, in bytes. What one write needed is not what the next one needs, and
 * memory is taken only when it is needed.
 */
export const LEAST_WINDOW = 64 * 2 ** 20;

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
 * @returns bytes; undefined for what is no size
 */
export function parseSize(text: string): bigint | undefined {
  const match = /^([0-9]+)([bskmgtpe]?)$/i.exec(text);
  if (match === null) return undefined;
  const [, digits = "", suffix = ""] = match;
  return BigInt(digits) * (UNITS[suffix.toLowerCase()] as bigint);
}

/** A byte count as {@link parseSize} reads it, with a suffix where it is a round number. */
export function formatSize(bytes: number | bigint): string {
  const count = BigInt(bytes);
  for (const suffix of ["G", "M", "k"]) {
    const unit = UNITS[suffix.toLowerCase()] as bigint;
    if (count > 0n && count % unit === 0n) return `${count / unit}${suffix}`;
  }
  return String(count);
}
