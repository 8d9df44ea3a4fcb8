/** The descriptors that the program was started with. */
import { fstatSync, readdirSync } from "node:fs";

let inherited: Set<number> | undefined;

/** Remembers the descriptors that are open now. */
export function rememberDescriptors(): void {
  inherited = listDescriptors();
}

/**
 * True for a descriptor that the program was started with, and for a few that the runtime opened before
 * {@link rememberDescriptors}. In a library, which remembers none, always true: the caller may have
 * opened it since.
 */
export function isInherited(fd: number): boolean {
  return inherited === undefined || inherited.has(fd);
}

/** The remembered descriptors; undefined if none were remembered. */
export function inheritedDescriptors(): ReadonlySet<number> | undefined {
  return inherited;
}

/** All open descriptors (proc(5)); undefined without /proc. */
function listDescriptors(): Set<number> | undefined {
  try {
    // The list contains the descriptor that reads the folder, which is closed afterwards.
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
