/** Block devices as sinks: what is on them is lost, so they must be free, and large enough. */
import { statSync } from "node:fs";
import { ERRNO, O_EXCL, O_RDONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { deviceSize, open, seekBy } from "../../../ffi/fd.ts";
import { deviceUsers } from "../../process/device-users.ts";
import { UnusableError } from "../spec.ts";

/**
 * Opens a block device that nobody uses, and keeps others from using it while the descriptor is open:
 * for a block device, O_EXCL fails with EBUSY while it is mounted, swapped to, a part of something, or
 * opened in this way (open(2)).
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
 * Claims the device behind a descriptor that somebody else has opened.
 *
 * @param access as the descriptor has it
 * @returns a descriptor to be kept meanwhile; undefined where it may not be opened once more
 * @throws UnusableError when it is in use
 */
export function claimDeviceOf(fd: number, access: number): number | undefined {
  const path = `/proc/self/fd/${fd}`;
  try {
    return claimBlockDevice(path, access);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    // The one who has opened it was allowed more.
    const users = usersOf(path);
    if (users.length > 0) throw inUse(users);
    return undefined;
  }
}

/**
 * Refuses a device on which the stream does not fit.
 *
 * @param size the stream's length in bytes, where it is known
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
  // What is mounted elsewhere, or opened by another program in the same way, does not show.
  const use = users.length === 0 ? "by the system or another program" : users.join(", ");
  return new UnusableError(
    `it is in use: ${use}`,
    "if it is the right one, see to it that nothing uses it (umount, swapoff, fuser -v)",
  );
}
