/** Refuses a pipe or socket whose other end is open in this process. */
import { fstatSync, type Stats } from "node:fs";
import { O_ACCMODE, O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { openFlags } from "../../../ffi/fd.ts";
import { unixPeer } from "../../../ffi/socket-diag.ts";
import { boundAddress, isUnix, peerAddress } from "../../../ffi/socket.ts";
import { inheritedDescriptors } from "../../process/inherited.ts";
import { type Direction, UnusableError } from "../spec.ts";

/** The consequence, for messages. */
const LOST = {
  write: "that its reader has ended would never be noticed",
  read: "its end would never come",
} as const;

const WORDS = {
  write: { other: "reads from it", only: "writing only, with > and not <>" },
  read: { other: "writes into it", only: "reading only, with < and not <>" },
} as const;

/**
 * Refuses a pipe whose other end this process has inherited: while it is open, the death of the process
 * that uses that end goes unnoticed (pipe(7)). A program that uses the library may open what it likes,
 * but not a descriptor that is both ends.
 *
 * @param fd the stream's own descriptor, if it is open already
 * @throws UnusableError
 */
export function refuseOwnPipeEnd(
  { dev, ino }: { readonly dev: number | bigint; readonly ino: number | bigint },
  direction: Direction,
  fd?: number,
): void {
  const { other, only } = WORDS[direction];
  const own = direction === "write" ? O_WRONLY : O_RDONLY;
  if (fd !== undefined && accessOf(fd) !== own) {
    const also = direction === "write" ? "reading" : "writing";
    throw new UnusableError(
      `it is open for ${also}, too: ${LOST[direction]}`,
      `open it for ${only}`,
    );
  }
  const shared = inherited().find(
    ({ number, stats }) =>
      stats.dev === Number(dev) && stats.ino === Number(ino) && accessOf(number) !== own,
  );
  if (shared !== undefined) {
    const { number } = shared;
    throw new UnusableError(
      `descriptor ${number} of the program ${other}, too: ${LOST[direction]}`,
      closing(number),
    );
  }
}

/** Refuses a socket that is connected to an inherited one. @throws UnusableError */
export function refuseOwnPeer({ ino }: Stats, direction: Direction, fd: number): void {
  const others = inherited().filter(({ stats }) => stats.isSocket() && stats.ino !== ino);
  if (others.length === 0) return;
  const peer = isUnix(fd) ? unixPeer(ino) : undefined;
  const shared = others.find(({ number, stats }) =>
    peer === undefined ? areConnected(fd, number) : stats.ino === peer,
  );
  if (shared !== undefined) {
    const { number } = shared;
    throw new UnusableError(
      `its other end is the program's, too, as descriptor ${number}: ${LOST[direction]}`,
      closing(number),
    );
  }
}

function closing(number: number): string {
  return `close that one where the program is started: ${number}<&-`;
}

export function accessOf(fd: number): number {
  return openFlags(fd) & O_ACCMODE;
}

function inherited(): { readonly number: number; readonly stats: Stats }[] {
  return [...(inheritedDescriptors() ?? [])].flatMap((number) => {
    try {
      return [{ number, stats: fstatSync(number) }];
    } catch {
      // The runtime had it open, and has closed it.
      return [];
    }
  });
}

/** True for the two ends of one TCP connection. */
function areConnected(one: number, other: number): boolean {
  try {
    const [from, to] = [boundAddress(one), peerAddress(one)];
    if (from?.kind !== "tcp") return false;
    return Bun.deepEquals([to, from], [boundAddress(other), peerAddress(other)]);
  } catch (error) {
    // Not connected (ENOTCONN).
    if (!(error instanceof SyscallError)) throw error;
    return false;
  }
}
