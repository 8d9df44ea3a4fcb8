/** The disk that is streamed where there is no qemu-img to make one: data, zeroes and holes. */
import { createHash } from "node:crypto";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Bytes that the client writes at a time. */
const PIECE = MiB;

/** What the client says of a part of the disk; it says nothing of those between: they are holes. */
export interface Part {
  readonly offset: number;
  readonly length: number;
  /** The byte that fills it; undefined is zeroes, in one request. */
  readonly fill?: number;
}

/** The length of the disk in bytes. */
export const SIZE = 256 * MiB;

/** In the order in which they are written. */
export const PARTS: readonly Part[] = [
  ...filled(0, 8 * MiB),
  { offset: 32 * MiB, length: 48 * MiB },
  ...filled(100 * MiB, 32 * MiB),
  ...filled(250 * MiB, 64 * KiB),
];

/** No piece is like another one. */
function filled(offset: number, length: number): Part[] {
  return Array.from({ length: Math.ceil(length / PIECE) }, (_, i) => {
    const at = offset + i * PIECE;
    return { offset: at, length: Math.min(PIECE, length), fill: 1 + ((at / PIECE) % 255) };
  });
}

/** What the disk is, without a client and a server in between. */
export function expectedSha256(): string {
  const hash = createHash("sha256");
  let at = 0;
  const zeroes = (end: number) => {
    for (; at < end; at += PIECE) hash.update(Buffer.alloc(Math.min(PIECE, end - at)));
    at = end;
  };
  for (const { offset, length, fill } of PARTS) {
    zeroes(offset);
    if (fill !== undefined) {
      hash.update(Buffer.alloc(length, fill));
      at += length;
    }
  }
  zeroes(SIZE);
  return hash.digest("hex");
}
