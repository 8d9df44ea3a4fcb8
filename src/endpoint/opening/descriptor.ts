/** `-` and `fd:N`: a descriptor that the program was started with. */
import { fstatSync, type Stats } from "node:fs";
import { isatty } from "node:tty";
import { O_ACCMODE, O_RDONLY, O_WRONLY, STDERR_FILENO } from "../../../ffi/constants.ts";
import { close, closesOnExec, deviceSize, dup, openFlags, seekBy } from "../../../ffi/fd.ts";
import { isInherited } from "../../process/inherited.ts";
import { isSameFile } from "../../process/same-file.ts";
import { isListening, isStream, resetOnClose } from "../../../ffi/socket.ts";
import { type Direction, UnusableError } from "../spec.ts";
import { claimBehind, requireRoom } from "./block-device.ts";
import { type Endpoint, PLAIN } from "../opening/endpoint.ts";
import { refuseOwnPeer, refuseOwnPipeEnd } from "../opening/own-end.ts";

/**
 * @param name what the user called it
 * @param size the stream's length in bytes, where it is known
 * @throws UnusableError for a terminal, a folder, what is not open, and for a block device as the sink
 *   that is in use or too small
 */
export function inheritDescriptor(
  name: string,
  fd: number,
  direction: Direction,
  size: bigint | undefined,
): Endpoint {
  const endpoint = findDescriptor(name, fd, direction, size);
  const { handle } = endpoint;
  if (direction === "read" || handle.kind === "fifo") return endpoint;
  if (!fstatSync(handle.fd).isBlockDevice()) return endpoint;
  const claim = closedOnError(handle.fd, () => claimBehind(handle.fd, accessOf(handle.fd)));
  return {
    ...endpoint,
    remove: () => {
      if (claim !== undefined) close(claim);
    },
  };
}

/** The same, but that a device is only looked at. @throws UnusableError */
export function findDescriptor(
  name: string,
  fd: number,
  direction: Direction,
  size: bigint | undefined,
): Endpoint {
  const stats = statInherited(fd);
  if (stats === undefined) {
    throw new UnusableError(
      `descriptor ${fd} is not open`,
      `redirect it where the program is started: ${fd}${direction === "write" ? `> FILE, or ${fd}>&1` : "< FILE"}`,
    );
  }
  if (isatty(fd)) {
    const remedy =
      direction === "write" ? "redirect it to a file or pipe it into" : "pipe into it from";
    throw new UnusableError("it is a terminal", `${remedy} a command`);
  }
  if (direction === "write") refuseMessages(fd, stats);
  return { ...PLAIN, name, ...adopt(name, dup(fd), stats, direction, size) };
}

/** Refuses what standard error goes to, after `2>&1`: messages would be in the stream. */
function refuseMessages(fd: number, stats: Stats): void {
  // /dev/null takes both.
  if (stats.isCharacterDevice() || !isSameFile(fd, STDERR_FILENO)) return;
  throw new UnusableError(
    "standard error goes there, too, and messages would get into the stream",
    "leave out 2>&1, or redirect it to a file of its own, such as 2> messages",
  );
}

/** What the user has left open for us under this number, if anything. */
function statInherited(fd: number): Stats | undefined {
  // Bun puts /dev/null where one of the first three is closed. Nothing that a program is started
  // with is close-on-exec, but that is.
  const standIn = (number: number) => number <= STDERR_FILENO && closesOnExec(number);
  try {
    return isInherited(fd) && !standIn(fd) ? fstatSync(fd) : undefined;
  } catch {
    return undefined;
  }
}

/** As {@link describe}, for a descriptor that is the endpoint's from now on: closes one that is none. */
export function adopt(...described: Parameters<typeof describe>): ReturnType<typeof describe> {
  return closedOnError(described[1], () => describe(...described));
}

function closedOnError<T>(fd: number, call: () => T): T {
  try {
    return call();
  } catch (error) {
    close(fd);
    throw error;
  }
}

/**
 * What kind of endpoint a descriptor is and, of a source, how long it is.
 *
 * @param size the stream's length in bytes, where it is known
 * @throws UnusableError when it is none, or too small
 */
export function describe(
  name: string,
  fd: number,
  stats: Stats,
  direction: Direction,
  size?: bigint,
): Pick<Endpoint, "handle" | "length"> {
  const access = accessOf(fd);
  if (direction === "write" && access === O_RDONLY) {
    throw new UnusableError("it is open for reading only", "open it for writing");
  }
  if (direction === "read" && access === O_WRONLY) {
    throw new UnusableError("it is open for writing only", "open it for reading");
  }
  if (stats.isFIFO()) {
    refuseOwnPipeEnd(stats, direction, fd);
    return { handle: { kind: "pipe", name, fd } };
  }
  if (stats.isSocket()) {
    requireConnection(fd);
    refuseOwnPeer(stats, direction, fd);
    // As for a connection of our own: there may never be a sink.
    if (direction === "write") resetOnClose(fd, true);
    return { handle: { kind: "socket", name, fd } };
  }
  if (stats.isFile() || stats.isBlockDevice() || stats.isCharacterDevice()) {
    if (direction === "write" && stats.isBlockDevice()) requireRoom(fd, size);
    const length = direction === "read" ? lengthLeft(fd, stats) : undefined;
    return { handle: { kind: "file", name, fd }, length };
  }
  throw direction === "write"
    ? new UnusableError("nothing can be written to it", "name a pipe, a socket or a device")
    : new UnusableError("nothing can be read from it", "name a pipe, a socket or a file");
}

/** A stream of bytes, and nothing else, goes through it. @throws UnusableError */
function requireConnection(fd: number): void {
  if (!isStream(fd)) {
    throw new UnusableError("it is a socket for messages", "make it one for a stream: SOCK_STREAM");
  }
  if (isListening(fd)) {
    throw new UnusableError("it is a socket that listens", "name one that it has accepted");
  }
}

function accessOf(fd: number): number {
  return openFlags(fd) & O_ACCMODE;
}

/** Bytes from a file's position to its end, where it has one. */
function lengthLeft(fd: number, stats: Stats): bigint | undefined {
  if (!stats.isFile() && !stats.isBlockDevice()) return undefined;
  const size = stats.isFile() ? stats.size : deviceSize(fd);
  return BigInt(Math.max(0, size - seekBy(fd, 0)));
}
