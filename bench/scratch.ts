/** A temporary folder for a benchmark, and the data in it. */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endAll } from "./transfer.ts";

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

/** Calls `body` with a fresh folder; nothing stays behind, not even after a signal. */
export async function withScratch<T>(
  bytes: number,
  body: (folder: string) => Promise<T>,
): Promise<T> {
  const room = statfsSync(tmpdir());
  if (room.bavail * room.bsize < bytes + GIB) {
    const needed = Math.ceil(bytes / GIB + 1);
    throw new Error(`${tmpdir()} has no room for ${needed} GiB: set TMPDIR, or --size`);
  }
  const folder = mkdtempSync(join(tmpdir(), "nbd-streaming-bench-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const stop = (code: number) => async () => {
    await endAll();
    remove();
    process.exit(code);
  };
  process.once("SIGINT", stop(130)).once("SIGTERM", stop(143));
  try {
    return await body(folder);
  } finally {
    await endAll();
    remove();
  }
}

/** Random bytes in a raw file. */
export async function randomFile(folder: string, bytes: number): Promise<string> {
  const path = join(folder, `random-${bytes}.raw`);
  const script = 'exec head -c "$1" /dev/urandom > "$2"';
  await command(["sh", "-c", script, "sh", String(bytes), path]);
  return path;
}

/** A qcow2 image without a single hole, in the page cache and on the disk. */
export async function randomImage(folder: string, mib: number): Promise<string> {
  // Nothing here compresses or finds repetitions, so a small file many times over will do.
  const part = partSize(mib);
  const raw = await randomFile(folder, part * MIB);
  const image = join(folder, "image.qcow2");
  const parts = Array<string>(mib / part).fill(raw);
  await command(["qemu-img", "convert", "-f", "raw", ...parts, "-O", "qcow2", image]);
  // Or the kernel would be writing it back during the first runs.
  await command(["sync", image]);
  rmSync(raw);
  return image;
}

/** Brings a file into the page cache. */
export async function readWhole(path: string): Promise<void> {
  await command(["sh", "-c", 'exec cat "$1" > /dev/null', "sh", path]);
}

function partSize(mib: number): number {
  for (let part = 64; part > 1; part /= 2) if (mib % part === 0) return part;
  return 1;
}

/** @throws Error when it fails */
export async function command(cmd: string[]): Promise<string> {
  const child = Bun.spawn(cmd, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, status] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  if (status !== 0) throw new Error(`${cmd[0]} failed with ${child.signalCode ?? status}`);
  return output;
}
