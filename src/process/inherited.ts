/**
 * The descriptors that the program was started with. To be imported before everything else: what is
 * loaded later opens descriptors of its own, under numbers that a user may name by mistake.
 */
import { readdirSync } from "node:fs";

const inherited = listDescriptors();

/** True for a descriptor that was open when the program started; a few of the runtime's own are, too. */
export function isInherited(fd: number): boolean {
  return inherited === undefined || inherited.has(fd);
}

/** All open descriptors (proc(5)), or undefined where there is no /proc. */
function listDescriptors(): Set<number> | undefined {
  try {
    return new Set(readdirSync("/proc/self/fd").map(Number));
  } catch {
    return undefined;
  }
}
