/** `check` of a path that is a file or a device. */
import { type BigIntStats, readFileSync } from "node:fs";
import type { Direction } from "../endpoint/spec.ts";
import { accessItem } from "./access.ts";
import { farEndItem as item, type Item } from "./item.ts";

/** Major numbers of terminals (proc(5), tty_drivers; Documentation/admin-guide/devices.txt). */
const TERMINALS = new Set([4, 5, ...Array.from({ length: 8 }, (_, i) => 136 + i)]);

/** By its mode alone: opening a device may rewind a tape or hang up a modem. */
export function checkFile(path: string, stats: BigIntStats, direction: Direction): Item[] {
  const items: Item[] = [];
  if (stats.isFile() && direction === "write") {
    const text = `a regular file, not a pipe: remove it, or write to standard output: pipe=- > ${path}`;
    return [item("kind", "failed", text)];
  }
  if (stats.isFile()) {
    items.push(
      item("kind", "ok", `a regular file of ${stats.size} bytes, which is the size= of the stream`),
    );
  } else if (stats.isCharacterDevice() && TERMINALS.has(device(stats).major)) {
    return [item("kind", "failed", "a terminal: name a pipe, a socket or a file")];
  } else if (stats.isCharacterDevice()) {
    items.push(item("kind", "ok", "a character device"));
  } else {
    const size = deviceSize(stats);
    items.push(
      item("kind", "ok", `a block device${size === undefined ? "" : ` of ${size} bytes`}`),
    );
  }
  items.push(accessItem(path, direction));
  return items;
}

/** As makedev(3) packs them. */
function device({ rdev }: BigIntStats): { major: number; minor: number } {
  const n = BigInt(rdev);
  return {
    major: Number(((n >> 8n) & 0xfffn) | ((n >> 32n) & 0xfffff000n)),
    minor: Number((n & 0xffn) | ((n >> 12n) & 0xffffff00n)),
  };
}

/** A block device's size in bytes, as sysfs has it in sectors of 512. */
function deviceSize(stats: BigIntStats): bigint | undefined {
  const { major, minor } = device(stats);
  try {
    return BigInt(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "latin1").trim()) * 512n;
  } catch {
    return undefined;
  }
}
