/** Block devices as sinks: their contents are overwritten, so they must be unused, and large enough. */
import { statSync } from "node:fs";
import { ERRNO, O_EXCL, O_RDONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { deviceSize, open, seekBy } from "../../../ffi/fd.ts";
import { deviceUsers } from "../../process/device-users.ts";
import { UnusableError } from "../spec.ts";

/**
 * Opens an unused block device, and keeps others from using it while the descriptor is open: O_EXCL
 * fails with EBUSY for a block device that is mounted, used for swapping, a part of another device, or
 * opened with O_EXCL (open(2)).
 *
 * @param access O_RDONLY, O_WRONLY or O_RDWR
 * @returns the descriptor, close-on-exec
 * @throws UnusableError when it is in use; SyscallError when it cannot be opened
 */
export function claimBlockDevice(path: string, access = O_RDONLY): number {
  try {
    return open(path, access | O_EXCL);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== ERRNO.EBUSY) throw error;
    throw inUse(usersOf(path));
  }
}

/**
 * Claims the block device behind an inherited descriptor.
 *
 * @param access the descriptor's O_RDONLY, O_WRONLY or O_RDWR
 * @returns a descriptor to keep open during the stream; undefined when the device cannot be opened
 *   again
 * @throws UnusableError when it is in use
 */
export function claimDeviceOf(fd: number, access: number): number | undefined {
  const path = `/proc/self/fd/${fd}`;
  try {
    return claimBlockDevice(path, access);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    // The process that opened it had more privileges.
    const users = usersOf(path);
    if (users.length > 0) throw inUse(users);
    return undefined;
  }
}

/**
 * Refuses a device that is too small for the stream.
 *
 * @param size the stream's length in bytes if known
 * @throws UnusableError
 */
export function requireRoom(fd: number, size: bigint | undefined): void {
  if (size === undefined) return;
  const position = seekBy(fd, 0);
  const room = deviceSize(fd) - position;
  if (BigInt(room) >= size) return;
  const behind = position === 0 ? "" : ` behind its position, byte ${position}`;
  throw new UnusableError(
    `it has ${room} bytes${behind}, and the stream has ${size}`,
    "name a larger device",
  );
}

function usersOf(path: string): string[] {
  try {
    return deviceUsers(statSync(path, { bigint: true }));
  } catch {
    return [];
  }
}

function inUse(users: readonly string[]): UnusableError {
  // Mounts in other namespaces, and programs that use O_EXCL, are not visible.
  const use = users.length === 0 ? "by the system or another program" : users.join(", ");
  return new UnusableError(
    `it is in use: ${use}`,
    "if it is the right one, see to it that nothing uses it (umount, swapoff, fuser -v)",
  );
}
