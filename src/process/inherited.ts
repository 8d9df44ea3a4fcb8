/** The descriptors that the program was started with. */
import { fstatSync, readdirSync } from "node:fs";

let inherited: Set<number> | undefined;

/** Remembers those that are open now. */
export function rememberDescriptors(): void {
  inherited = listDescriptors();
}

/**
 * True for a descriptor that was open when they were remembered; a few of the runtime's own are, too.
 * True for all where they were not, as in a library: the caller may have opened it since.
 */
export function isInherited(fd: number): boolean {
  return inherited === undefined || inherited.has(fd);
}

/** Those that were open when they were remembered; undefined where they were not. */
export function inheritedDescriptors(): ReadonlySet<number> | undefined {
  return inherited;
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
