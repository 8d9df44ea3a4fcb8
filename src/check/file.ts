/** `check` of a path that is a file or a device. */
import { type BigIntStats, readFileSync } from "node:fs";
import { deviceName, deviceUsers } from "../process/device-users.ts";
import type { Direction } from "../endpoint/spec.ts";
import { accessItem } from "./access.ts";
import { endpointItem as item, type Item } from "./item.ts";

/** Major numbers of terminals (proc(5), tty_drivers; Documentation/admin-guide/devices.txt). */
const TERMINALS = new Set([4, 5, ...Array.from({ length: 8 }, (_, i) => 136 + i)]);

/** By its mode alone: opening a device may rewind a tape or hang up a modem. */
export function checkFile(
  path: string,
  stats: BigIntStats,
  direction: Direction,
  size: bigint | undefined,
): Item[] {
  const items: Item[] = [];
  if (stats.isFile() && direction === "write") {
    const text = `a regular file, not a pipe: remove it, or write to standard output: pipe=- > ${path}`;
    return [item("kind", "failed", text)];
  }
  if (stats.isFile()) {
    items.push(
      item("kind", "ok", `a regular file of ${stats.size} bytes, which is the size= of the stream`),
    );
  } else if (stats.isCharacterDevice() && TERMINALS.has(majorOf(stats))) {
    return [item("kind", "failed", "a terminal: name a pipe, a socket or a file")];
  } else if (stats.isCharacterDevice()) {
    items.push(item("kind", "ok", "a character device"));
  } else {
    const room = deviceSize(stats);
    items.push(
      item("kind", "ok", `a block device${room === undefined ? "" : ` of ${room} bytes`}`),
    );
    if (direction === "write") {
      items.push(deviceUseItem(stats));
      if (room !== undefined && size !== undefined && room < size) {
        const text = `${room} bytes, and the stream has ${size}: name a larger device`;
        items.push(item("room", "failed", text));
      }
    }
  }
  items.push(accessItem(path, direction));
  return items;
}

/** What a device that is to be written is used for; it must be nothing. */
export function deviceUseItem(stats: BigIntStats): Item {
  const users = deviceUsers(stats);
  return users.length === 0
    ? item("use", "ok", "it is not seen to be mounted, swapped to or a part of anything")
    : item("use", "failed", `it is in use: ${users.join(", ")}`);
}

function majorOf({ rdev }: BigIntStats): number {
  return Number(deviceName(rdev).split(":")[0]);
}

/** A block device's size in bytes, as sysfs has it in sectors of 512. */
function deviceSize({ rdev }: BigIntStats): bigint | undefined {
  try {
    const sectors = readFileSync(`/sys/dev/block/${deviceName(rdev)}/size`, "latin1");
    return BigInt(sectors.trim()) * 512n;
  } catch {
    return undefined;
  }
}
