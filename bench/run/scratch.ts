/** A temporary folder for a benchmark, and the data in it. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GIB } from "../rows/row.ts";
import { endAll } from "./transfer.ts";

const MEMORY = "/dev/shm";

/** statfs(2) */
const TMPFS_MAGIC = 0x01021994;

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

/** The first bytes of files, one after the other, in a new file. */
export async function copyHead(from: string[], bytes: number, to: string): Promise<void> {
  const script = 'bytes=$1; to=$2; shift 2; cat "$@" | head -c "$bytes" > "$to"';
  await command(["sh", "-c", script, "sh", String(bytes), to, ...from]);
}

/** Brings a file into the page cache, if it is not in memory anyway. */
export async function readWhole(path: string): Promise<void> {
  if (statfsSync(path).type === TMPFS_MAGIC) return;
  await command(["sh", "-c", 'exec cat "$1" > /dev/null', "sh", path]);
}

/** @throws Error when it fails */
export async function command(cmd: string[]): Promise<string> {
  const child = Bun.spawn(cmd, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, status] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  if (status !== 0) throw new Error(`${cmd[0]} failed with ${child.signalCode ?? status}`);
  return output;
}
