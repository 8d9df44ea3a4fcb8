/** A temporary folder for a benchmark, and the data in it. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endAll } from "./transfer.ts";

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

const MEMORY = "/dev/shm";

/** Calls `body` with a fresh folder; nothing stays behind, not even after a signal. */
export async function withScratch<T>(
  bytes: number,
  body: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(placeFor(bytes), "nbd-streaming-bench-"));
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

/** TMPDIR if it is set; otherwise memory, where no disk disturbs the figures, if there is room. */
function placeFor(bytes: number): string {
  const needed = bytes + GIB;
  if (!process.env.TMPDIR && existsSync(MEMORY) && room(MEMORY) >= needed) {
    // A tmpfs may have room for more than there is memory.
    if (availableMemory() >= needed + GIB) return MEMORY;
  }
  const folder = tmpdir();
  if (room(folder) >= needed) return folder;
  const gib = Math.ceil(needed / GIB);
  throw new Error(`${folder} has no room for ${gib} GiB: set TMPDIR, or --size`);
}

function room(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

function availableMemory(): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return Number(kib ?? 0) * 1024;
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
