/** Whether /proc is what the program takes it for. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * Looks for this process as for the processes of a command, which are found by their parents, their
 * environments and their descriptors (proc(5)).
 *
 * @param root where it is mounted
 * @returns what is wrong with it; undefined if nothing is
 */
export function problemOfProc(root = "/proc"): string | undefined {
  try {
    const self = readlinkSync(`${root}/self`);
    // After unshare(2) without a new mount, or where a container has its host's.
    if (self !== String(process.pid)) {
      return `it is that of another PID namespace, where this process is ${self}, not ${process.pid}`;
    }
    if (!readdirSync(root).includes(self)) return "it does not list this process";
    for (const file of ["stat", "environ"]) readFileSync(`${root}/${self}/${file}`);
    readdirSync(`${root}/${self}/fd`);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
