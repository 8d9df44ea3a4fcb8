/** Who has a file open for writing: what replaces the file would take it from them unnoticed. */
import { O_RDONLY } from "../../ffi/constants.ts";
import { close, hasNoWriter, isLocked, open } from "../../ffi/fd.ts";

/**
 * The byte on which all programs of qemu's have a lock that have an image open for writing
 * (block/file-posix.c: RAW_LOCK_PERM_BASE, and the bit of BLK_PERM_WRITE).
 */
const QEMU_WRITES = 101;

/** True when a program is known to have the file open for writing, such as a VM or a loop device. */
export function isBeingWritten(path: string): boolean {
  let fd: number;
  try {
    fd = open(path, O_RDONLY);
  } catch {
    return false;
  }
  try {
    const none = hasNoWriter(fd);
    return none === undefined ? isLocked(fd, QEMU_WRITES) : !none;
  } catch {
    // There are no locks on this file system.
    return false;
  } finally {
    close(fd);
  }
}
