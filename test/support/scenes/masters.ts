/** The disks of the documents, made once and copied for each scene. */
import { expect } from "bun:test";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestDisk } from "../copied.ts";
import { pseudoRandom } from "../images.ts";
import { command, eventually } from "../program.ts";
import { digestFile } from "../reader.ts";
import type { Stage } from "./stage.ts";

const MiB = 1024 * 1024;

/** The size of the disk. */
export const SIZE = 16 * MiB;
/** What the documents say instead: so much would take minutes in each scene. */
export const SMALL = ["size=10G", "size=16M"] as const;

export interface Masters {
  readonly raw: string;
  readonly qcow2: string;
  /** The same disk, but it cannot be read to its end. */
  readonly broken: string;
  /** SHA-256 of the disk. */
  readonly sha256: string;
}

/** Makes them in a folder: a disk with data and holes, one of them at its end. */
export async function makeMasters(folder: string): Promise<Masters> {
  const [raw, qcow2, broken] = ["disk.raw", "disk.qcow2", "broken.qcow2"].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const disk = Buffer.alloc(SIZE);
  pseudoRandom(5 * MiB + 4096, 5).copy(disk, 0);
  // In hexadecimal digits it can be compressed, and so does not stand in the image as it is.
  Buffer.from(pseudoRandom(3 * MiB, 6).toString("hex")).copy(disk, 8 * MiB);
  writeFileSync(raw, disk);
  await command(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2]);
  await command(["qemu-img", "convert", "-f", "raw", "-c", "-O", "qcow2", raw, broken]);
  const bytes = readFileSync(broken);
  // Compressed clusters that are none: reading them fails (EIO).
  bytes.fill(0, Math.floor(bytes.length * 0.75), Math.floor(bytes.length * 0.85));
  writeFileSync(broken, bytes);
  return { raw, qcow2, broken, sha256: await digestFile(raw) };
}

/** Puts the image to export there. */
export function withImage(stage: Stage): void {
  copyFileSync(stage.masters.qcow2, stage.file("disk.qcow2"));
}

/** Puts an image there that cannot be read to its end. */
export function withBrokenImage(stage: Stage): void {
  copyFileSync(stage.masters.broken, stage.file("disk.qcow2"));
}

/** Puts the raw disk there. */
export function withRawDisk(stage: Stage, name = "disk.raw"): void {
  copyFileSync(stage.masters.raw, stage.file(name));
}

/** Expects the disk to be what a command line prints. */
export async function expectPrinted(stage: Stage, line: string): Promise<void> {
  expect((await stage.shell(`${line} | sha256sum`)).slice(0, 64)).toBe(stage.masters.sha256);
}

/** Expects the disk to be in a file. */
export function expectFile(stage: Stage, name: string): Promise<void> {
  return expectPrinted(stage, `cat ${name}`);
}

/** Expects the disk to be what zstd has compressed. */
export function expectCompressed(stage: Stage): Promise<void> {
  return expectPrinted(stage, "zstd -dc disk.raw.zst");
}

/** Waits until zstd, whose end nobody waits for, has written all of its file. */
export async function wholeFile({ cwd }: Stage): Promise<void> {
  const test = () => Bun.spawnSync(["zstd", "-q", "-t", "disk.raw.zst"], { cwd });
  await eventually(() => test().exitCode === 0, "zstd to end");
}

/** Expects the disk to be in the image that was made. */
export async function expectImage(stage: Stage): Promise<void> {
  expect(await digestDisk(stage.file("disk.qcow2"), "qcow2")).toBe(stage.masters.sha256);
}
