/** The users of a block device, as far as the kernel shows them (proc(5), sysfs(5)). */
import { type BigIntStats, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { readOrNothing } from "./proc.ts";

/** A device number as the kernel writes it, such as `8:1`. @param rdev from stat(2) */
export function deviceName(rdev: bigint): string {
  // Packed by makedev(3).
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * What uses a block device, one of its partitions or its whole disk, such as `mounted at /mnt`,
 * `used for swapping` or `a part of dm-0 (vg-root)`, with the partition or disk in front where it is
 * not the device itself. Mounts of other namespaces (mount_namespaces(7)) are not visible.
 *
 * @param rdev from stat(2)
 */
export function deviceUsers({ rdev }: Pick<BigIntStats, "rdev">): string[] {
  const own = deviceName(rdev);
  const tree = new Map([[own, ""], ...relatives(own)]);
  const found: string[] = [];
  const add = (device: string | undefined, use: string) => {
    const prefix = device === undefined ? undefined : tree.get(device);
    if (prefix !== undefined && !found.includes(prefix + use)) found.push(prefix + use);
  };
  for (const { device, source, place } of mounts()) {
    // Some file systems have a device number of their own; the source path leads to the device.
    add(tree.has(device) ? device : deviceAt(source), `mounted at ${place}`);
  }
  for (const path of swaps()) add(deviceAt(path), "used for swapping");
  for (const device of tree.keys()) {
    for (const holder of holders(device)) add(device, `a part of ${holder}`);
  }
  return found;
}

const SYSFS = "/sys/dev/block";

/** The partitions of a disk, or the disk of a partition, by their device numbers. */
function relatives(device: string): [device: string, prefix: string][] {
  const folder = join(SYSFS, device);
  if (readText(join(folder, "partition")) !== undefined) {
    // `folder` is a symbolic link, and `..` its target's parent; join() would remove both.
    const disk = readText(`${folder}/../dev`);
    return disk === undefined ? [] : [[disk, "its disk is "]];
  }
  return list(folder).flatMap((name): [string, string][] => {
    if (readText(join(folder, name, "partition")) === undefined) return [];
    const number = readText(join(folder, name, "dev"));
    return number === undefined ? [] : [[number, `its partition ${name} is `]];
  });
}

/** The devices stacked on a device: LVM, RAID, encryption. */
function holders(device: string): string[] {
  return list(join(SYSFS, device, "holders")).map((name) => {
    const label = readText(join("/sys/class/block", name, "dm/name"));
    return label === undefined ? name : `${name} (${label})`;
  });
}

/** All mounts (proc_pid_mountinfo(5)). */
function mounts(): { device: string; source: string; place: string }[] {
  const lines = (readText("/proc/self/mountinfo") ?? "").split("\n");
  return lines.flatMap((line) => {
    const [, , device, , place, ...more] = line.split(" ");
    if (device === undefined || place === undefined) return [];
    const source = more[more.indexOf("-") + 2] ?? "";
    return [{ device, source: unescaped(source), place: unescaped(place) }];
  });
}

/** Swap partitions and files (proc_swaps(5)). */
function swaps(): string[] {
  const lines = (readText("/proc/swaps") ?? "").split("\n").slice(1);
  return lines.map((line) => unescaped(line.split(/\s/)[0] ?? ""));
}

/** Decodes the octal escapes that /proc has for white space and backslashes. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** A block device's number by its path; undefined for anything else. */
function deviceAt(path: string): string | undefined {
  if (!path.startsWith("/")) return undefined;
  try {
    const stats = statSync(path, { bigint: true });
    return stats.isBlockDevice() ? deviceName(stats.rdev) : undefined;
  } catch {
    return undefined;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  return readOrNothing(path, "utf8")?.trim();
}
