/** Disk images, made by qemu's own tools. */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { command } from "./program.ts";
import { digestFile } from "./reader.ts";

/** An image, and the SHA-256 of the disk in it. */
export interface Image {
  readonly path: string;
  readonly format: "raw" | "qcow2";
  readonly size: number;
  readonly sha256: string;
}

/** Bytes without a pattern that are the same at every run (xorshift32). */
export function pseudoRandom(length: number, seed = 1): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

/** A raw image full of data. */
export async function rawImage(path: string, size: number): Promise<Image> {
  writeFileSync(path, pseudoRandom(size));
  return { path, format: "raw", size, sha256: await digestFile(path) };
}

/** A raw image of 17 MiB with three islands of data: at the start, inside, and near the end. */
export async function holedImage(path: string): Promise<Image> {
  const disk = Buffer.alloc(17 * 1024 * 1024);
  pseudoRandom(100_000, 2).copy(disk);
  pseudoRandom(3 * 1024 * 1024, 3).copy(disk, 12_345_678);
  pseudoRandom(70_000, 4).copy(disk, disk.length - 200_000);
  writeFileSync(path, disk);
  return { path, format: "raw", size: disk.length, sha256: await digestFile(path) };
}

/** SHA-256 of an image as a disk of whole sectors: what is missing of the last one is zeroes. */
export async function digestSectors({ path, size }: Image): Promise<string> {
  const hash = createHash("sha256").update(await readFile(path));
  return hash.update(Buffer.alloc(-size & 511)).digest("hex");
}

/** A qcow2 image full of data; leaves its raw form beside it as `PATH.raw`. */
export async function qcow2Image(path: string, size: number): Promise<Image> {
  const raw = await rawImage(`${path}.raw`, size);
  await command(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw.path, path]);
  return { path, format: "qcow2", size, sha256: raw.sha256 };
}

/** A qcow2 image of 192 MiB with three islands of data: at the start, inside, and near the end. */
export async function sparseImage(path: string): Promise<Image> {
  const size = 192 * 1024 * 1024;
  await command(["qemu-img", "create", "-q", "-f", "qcow2", path, String(size)]);
  const islands = ["write -P 1 0 1M", "write -P 2 70M 3M", "write -P 3 180M 64k"];
  await command(["qemu-io", "-f", "qcow2", ...islands.flatMap((io) => ["-c", io]), path]);
  await command(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`]);
  return { path, format: "qcow2", size, sha256: await digestFile(`${path}.raw`) };
}

/**
 * A qcow2 image of 48 MiB whose data was written here and there, with zeroes and holes in between; leaves its
 * raw form beside it as `PATH.raw`.
 */
export async function fragmentedImage(path: string): Promise<Image> {
  const [size, step, count] = [48 * 1024 * 1024, 192 * 1024, 256];
  await command(["qemu-img", "create", "-q", "-f", "qcow2", path, String(size)]);
  const writes = Array.from({ length: count }, (_, i) => {
    // 101 and 256 have no common factor.
    const at = ((i * 101) % count) * step;
    return i % 16 === 15 ? `write -z ${at} 128k` : `write -P ${(i % 255) + 1} ${at} 128k`;
  });
  await command(["qemu-io", "-f", "qcow2", ...writes.flatMap((io) => ["-c", io]), path]);
  await command(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`]);
  return { path, format: "qcow2", size, sha256: await digestFile(`${path}.raw`) };
}

/**
 * A command line that makes an encrypted qcow2 image. qemu-img 7.2 measures how long hashing takes, and
 * fails where the clock has not moved meanwhile.
 *
 * @param secret what `--object secret` is told of the passphrase
 */
export function encrypting(raw: string, image: string, secret: string): string {
  const options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
  const convert = `qemu-img convert -O qcow2 --object secret,id=key,${secret} -o ${options} '${raw}' ${image}`;
  return `for try in 1 2 3 4 5 6 7 8 9 10; do ${convert} && break; done`;
}
