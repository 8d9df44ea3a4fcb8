/** The other end of a pipe or socket, where the program has it open itself. */
import { fstatSync, type Stats } from "node:fs";
import { O_ACCMODE, O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { openFlags } from "../../../ffi/fd.ts";
import { unixPeer } from "../../../ffi/socket-diag.ts";
import { boundAddress, isUnix, peerAddress } from "../../../ffi/socket.ts";
import { inheritedDescriptors } from "../../process/inherited.ts";
import { type Direction, UnusableError } from "../spec.ts";

/** What the program would wait for in vain. */
const LOST = {
  write: "that its reader has ended would never be noticed",
  read: "its end would never come",
} as const;

const WORDS = {
  write: { other: "reads from it", only: "writing only, with > and not <>" },
  read: { other: "writes into it", only: "reading only, with < and not <>" },
} as const;

/**
 * Refuses a pipe whose other end is open in the program itself: while it is, the death of whoever else
 * has it goes unnoticed (pipe(7)). What a program opens that uses the library is its own business, but
 * for a descriptor that is both ends.
 *
 * @param fd the stream's own descriptor, where it is open already
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
  const culprit = inherited().find(
    ({ number, stats }) =>
      stats.dev === Number(dev) && stats.ino === Number(ino) && accessOf(number) !== own,
  );
  if (culprit !== undefined) {
    const { number } = culprit;
    throw new UnusableError(
      `descriptor ${number} of the program ${other}, too: ${LOST[direction]}`,
      closing(number),
    );
  }
}

/** The same of a connected socket. @throws UnusableError */
export function refuseOwnPeer({ ino }: Stats, direction: Direction, fd: number): void {
  const others = inherited().filter(({ stats }) => stats.isSocket() && stats.ino !== ino);
  if (others.length === 0) return;
  const peer = isUnix(fd) ? unixPeer(ino) : undefined;
  const culprit = others.find(({ number, stats }) =>
    peer === undefined ? areConnected(fd, number) : stats.ino === peer,
  );
  if (culprit !== undefined) {
    const { number } = culprit;
    throw new UnusableError(
      `its other end is the program's, too, as descriptor ${number}: ${LOST[direction]}`,
      closing(number),
    );
  }
}

function closing(number: number): string {
  return `close that one where the program is started: ${number}<&-`;
}

function accessOf(fd: number): number {
  return openFlags(fd) & O_ACCMODE;
}

function inherited(): { readonly number: number; readonly stats: Stats }[] {
  return [...(inheritedDescriptors() ?? [])].flatMap((number) => {
    try {
      return [{ number, stats: fstatSync(number) }];
    } catch {
      // One of the runtime's that it has closed.
      return [];
    }
  });
}

/** True for the two ends of a TCP connection of this machine with itself. */
function areConnected(one: number, other: number): boolean {
  try {
    const [from, to] = [boundAddress(one), peerAddress(one)];
    if (from?.kind !== "tcp") return false;
    return Bun.deepEquals([to, from], [boundAddress(other), peerAddress(other)]);
  } catch (error) {
    // One that is not connected.
    if (!(error instanceof SyscallError)) throw error;
    return false;
  }
}
