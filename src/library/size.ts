/** Sizes, also as nbdkit writes them (nbdkit(1), "size"). */
import type { UserError } from "../errors.ts";
import { optionError } from "../messages/notice-error.ts";
import { UNBOUNDED_SIZE } from "../protocol/export.ts";

/** Bytes; as text: a whole number with or without a suffix, see {@link parseSize}. */
export type Size = number | bigint | string;

type SizeOption = "size" | "window";

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
 * @param option for the message
 * @returns bytes, at most 2^63 - 2^30
 * @throws UserError ERR_USAGE
 */
export function parseSize(option: SizeOption, text: string): bigint {
  const match = /^([0-9]+)([bskmgtpe]?)$/i.exec(text);
  if (match === null) {
    throw optionError({ code: "NOT_A_SIZE", option, value: text });
  }
  const [, digits = "", suffix = ""] = match;
  return limited(option, text, BigInt(digits) * (UNITS[suffix.toLowerCase()] as bigint));
}

/** As {@link parseSize}, where it may be a number already. @throws UserError ERR_USAGE */
export function toSize(option: SizeOption, size: Size): bigint {
  if (typeof size === "string") return parseSize(option, size);
  // A number that is not exact may have been another one.
  if (size < 0 || (typeof size === "number" && !Number.isSafeInteger(size))) {
    throw optionError({ code: "NOT_A_SIZE", option, value: size });
  }
  return limited(option, size, BigInt(size));
}

function limited(option: SizeOption, size: Size, bytes: bigint): bigint {
  if (bytes <= UNBOUNDED_SIZE) return bytes;
  throw tooLarge(option, size, "2^63 - 2^30 bytes");
}

/** More memory than a window should take: a client that needs it does not stream. */
const MAX_WINDOW = 1n << 34n;

/** A size of memory. @throws UserError ERR_USAGE */
export function toWindow(size: Size): number {
  const bytes = toSize("window", size);
  if (bytes > MAX_WINDOW) throw tooLarge("window", size, "16G");
  return Number(bytes);
}

function tooLarge(option: SizeOption, value: Size, most: string): UserError {
  return optionError({ code: "SIZE_TOO_LARGE", option, value, most });
}
