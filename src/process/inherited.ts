/**
 * The descriptors that the program was started with. To be imported before everything else: what is
 * loaded later opens descriptors of its own, under numbers that a user may name by mistake.
 */
import { fstatSync, readdirSync } from "node:fs";

const inherited = listDescriptors();

/** True for a descriptor that was open when the program started; a few of the runtime's own are, too. */
export function isInherited(fd: number): boolean {
  return inherited === undefined || inherited.has(fd);
}

/** All open descriptors (proc(5)), or undefined where there is no /proc. */
function listDescriptors(): Set<number> | undefined {
  try {
    // Reading the folder takes a descriptor, too, which is in the list but gone afterwards.
    return new Set(readdirSync("/proc/self/fd").map(Number).filter(isOpen));
  } catch {
    return undefined;
  }
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}
