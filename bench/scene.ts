/** What the rows have to work with, made once. */
import { join } from "node:path";
import type { Peer } from "./peer.ts";
import type { Data, Row } from "./rows.ts";
import { command, MIB, randomImage } from "./scratch.ts";

/** Requests of 4 KiB take their time. */
const PART_MIB = 512;

export interface Scene {
  /** A qcow2 image, full of random data. */
  image: string;
  data: Record<Data, Bytes>;
  /** A raw file of the size of the data `image`, to write to; only if a row wants it. */
  target: string;
  peer: Peer | undefined;
}

export interface Bytes {
  path: string;
  bytes: number;
}

/**
 * The data is
 * - `disk`: the disk in the image, which a client reads out of it,
 * - `image`: the bytes of the image file itself, random like the disk and a little longer,
 * - `part`: the first of them; only if a row wants it.
 */
export async function makeScene(
  folder: string,
  { mib, chosen, peer }: { mib: number; chosen: Row[]; peer: Peer | undefined },
): Promise<Scene> {
  const path = await randomImage(folder, mib);
  const image = { path, bytes: Bun.file(path).size };
  const part = { path: join(folder, "part.raw"), bytes: Math.min(mib, PART_MIB) * MIB };
  const target = join(folder, "target.raw");
  if (chosen.some((row) => row.data === "part")) await copy(path, part);
  if (chosen.some(writesTarget)) await copy("/dev/zero", { ...image, path: target });
  return {
    image: path,
    data: { disk: { path, bytes: mib * MIB }, image, part },
    target,
    peer,
  };
}

/** How much room that takes, with what the image is made of. */
export function roomFor(mib: number, chosen: Row[]): number {
  const part = chosen.some((row) => row.data === "part") ? Math.min(mib, PART_MIB) : 0;
  const target = chosen.some(writesTarget) ? mib : 0;
  return (mib + part + target + 64) * MIB;
}

function writesTarget(row: Row): boolean {
  return row.parameter === "read" && row.check.includes("$TARGET");
}

async function copy(from: string, { path, bytes }: Bytes): Promise<void> {
  const script = 'exec head -c "$1" "$2" > "$3"';
  await command(["sh", "-c", script, "sh", String(bytes), from, path]);
}
