/** The disk that is streamed in all runs. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { command, randomFile } from "../../run/scratch.ts";
import { SIZE } from "../case.ts";

export interface Disk {
  readonly raw: string;
  readonly qcow2: string;
  readonly sha256: string;
}

export async function makeDisk(folder: string): Promise<Disk> {
  const [raw, qcow2] = [await randomFile(folder, SIZE), join(folder, "disk.qcow2")];
  await command(["qemu-img", "convert", "-f", "raw", raw, "-O", "qcow2", qcow2]);
  return { raw, qcow2, sha256: digest(readFileSync(raw)) };
}

export function digest(data: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(data).digest("hex");
}
