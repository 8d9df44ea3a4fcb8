/**
 * Exact 64-bit positions and lengths, without a bigint for each request.
 *
 * An {@link Offset} is a number up to 2^53 - 1, and a bigint above. Every function here returns that
 * form, so equal offsets are `===`. `<` and `>` compare a number with a bigint exactly; only arithmetic
 * needs functions.
 */
export type Offset = number | bigint;

/** The largest value in an NBD request. */
export const MAX_OFFSET = 2n ** 64n - 1n;

/** Converts a bigint to an {@link Offset}. */
export function toOffset(value: bigint): Offset {
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** Reads an unsigned big-endian 64-bit integer. */
export function readOffset(view: DataView, at: number): Offset {
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  if (high < 0x20_0000) return high * 0x1_0000_0000 + low;
  return (BigInt(high) << 32n) | BigInt(low);
}

/** Writes an offset, at most {@link MAX_OFFSET}, as an unsigned big-endian 64-bit integer. */
export function writeOffset(view: DataView, at: number, offset: Offset): void {
  if (typeof offset === "bigint") {
    view.setBigUint64(at, offset);
  } else {
    // setUint32 would drop a fraction, too, but compiled code gives up and starts again for each one.
    view.setUint32(at, Math.floor(offset / 0x1_0000_0000));
    // setUint32 takes the low 32 bits, which are exact in every safe integer.
    view.setUint32(at + 4, offset);
  }
}

export function add(a: Offset, b: Offset): Offset {
  if (typeof a === "number" && typeof b === "number") {
    const sum = a + b;
    if (sum <= Number.MAX_SAFE_INTEGER) return sum;
  }
  return toOffset(BigInt(a) + BigInt(b));
}

/** @param a at least `b` */
export function subtract(a: Offset, b: Offset): Offset {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return toOffset(BigInt(a) - BigInt(b));
}

export function min(a: Offset, b: Offset): Offset {
  return a < b ? a : b;
}

export function max(a: Offset, b: Offset): Offset {
  return a > b ? a : b;
}

/** Rounds up to a multiple of `unit`. */
export function roundUp(value: Offset, unit: number): Offset {
  const big = BigInt(value);
  const step = BigInt(unit);
  return toOffset(((big + step - 1n) / step) * step);
}
