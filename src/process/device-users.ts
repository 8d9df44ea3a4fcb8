/** Who uses a block device, as far as the kernel tells (proc(5), sysfs(5)). */
import { type BigIntStats, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** A device number as the kernel writes it, such as `8:1`. @param rdev as stat(2) has it */
export function deviceName(rdev: bigint): string {
  // As makedev(3) packs them.
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * What a block device, one of its partitions or the disk that it is a part of is used for: such as
 * `mounted at /mnt`, `used for swapping` or `a part of dm-0 (vg-root)`, with the partition in front
 * where it is not the device itself. What is mounted for others only (mount_namespaces(7)) is not seen.
 *
 * @param rdev as stat(2) has it
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
    // Some file systems have a number of their own, and the device by its path.
    add(tree.has(device) ? device : deviceAt(source), `mounted at ${place}`);
  }
  for (const path of swaps()) add(deviceAt(path), "used for swapping");
  for (const device of tree.keys()) {
    for (const holder of holders(device)) add(device, `a part of ${holder}`);
  }
  return found;
}

const SYSFS = "/sys/dev/block";

/** The partitions of a disk, or the disk of a partition, by their numbers. */
function relatives(device: string): [device: string, prefix: string][] {
  const folder = join(SYSFS, device);
  if (read(join(folder, "partition")) !== undefined) {
    // Behind the link; join() would cut it off.
    const disk = read(`${folder}/../dev`);
    return disk === undefined ? [] : [[disk, "its disk is "]];
  }
  return list(folder).flatMap((name): [string, string][] => {
    if (read(join(folder, name, "partition")) === undefined) return [];
    const number = read(join(folder, name, "dev"));
    return number === undefined ? [] : [[number, `its partition ${name} is `]];
  });
}

/** What is stacked on a device: LVM, RAID, encryption. */
function holders(device: string): string[] {
  return list(join(SYSFS, device, "holders")).map((name) => {
    const label = read(join("/sys/class/block", name, "dm/name"));
    return label === undefined ? name : `${name} (${label})`;
  });
}

/** Where what is mounted (proc_pid_mountinfo(5)). */
function mounts(): { device: string; source: string; place: string }[] {
  const lines = (read("/proc/self/mountinfo") ?? "").split("\n");
  return lines.flatMap((line) => {
    const [, , device, , place, ...more] = line.split(" ");
    if (device === undefined || place === undefined) return [];
    const source = more[more.indexOf("-") + 2] ?? "";
    return [{ device, source: unescaped(source), place: unescaped(place) }];
  });
}

/** Partitions and files that are swapped to (proc_swaps(5)). */
function swaps(): string[] {
  const lines = (read("/proc/swaps") ?? "").split("\n").slice(1);
  return lines.map((line) => unescaped(line.split(/\s/)[0] ?? ""));
}

/** Spaces and the like are octal numbers there. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** The number of a block device by its path; undefined when there is none. */
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

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}
