/** `-` and `fd:N`: a descriptor that the program has inherited. */
import { fstatSync, type Stats } from "node:fs";
import { isTerminal } from "../../../ffi/terminal.ts";
import { O_RDONLY, O_WRONLY, STDERR_FILENO } from "../../../ffi/constants.ts";
import { close, closesOnExec, deviceSize, dup, seekBy } from "../../../ffi/fd.ts";
import { isInherited } from "../../process/inherited.ts";
import { isSameFile } from "../../process/same-file.ts";
import { isListening, isStream, resetOnClose } from "../../../ffi/socket.ts";
import { type Direction, UnusableError } from "../spec.ts";
import { claimDeviceOf, requireRoom } from "./block-device.ts";
import { type Endpoint, PLAIN } from "./endpoint.ts";
import { accessOf, refuseOwnPeer, refuseOwnPipeEnd } from "./own-end.ts";

/**
 * Duplicates an inherited descriptor as the endpoint; claims a block device that is the sink.
 *
 * @param name the user's text
 * @param size the stream's length in bytes if known
 * @throws UnusableError for a closed descriptor, a terminal, a folder, and for a block device as the
 *   sink that is in use or too small
 */
export function inheritDescriptor(
  name: string,
  fd: number,
  direction: Direction,
  size: bigint | undefined,
): Endpoint {
  const endpoint = inspectDescriptor(name, fd, direction, size);
  const { handle } = endpoint;
  if (direction === "read" || handle.kind === "fifo") return endpoint;
  // At once, as in connectTcp(): the stream may fail before the sink is open.
  if (handle.kind === "socket") closedOnError(handle.fd, () => resetOnClose(handle.fd, true));
  if (!fstatSync(handle.fd).isBlockDevice()) return endpoint;
  const claim = closedOnError(handle.fd, () => claimDeviceOf(handle.fd, accessOf(handle.fd)));
  return {
    ...endpoint,
    remove: () => {
      if (claim !== undefined) close(claim);
    },
  };
}

/** Does the work of {@link inheritDescriptor}, but changes nothing about what is open. @throws UnusableError */
export function inspectDescriptor(
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
  if (isTerminal(fd)) {
    const remedy =
      direction === "write" ? "redirect it to a file or pipe it into" : "pipe into it from";
    throw new UnusableError("it is a terminal", `${remedy} a command`);
  }
  if (direction === "write") refuseMessages(fd, stats);
  return { ...PLAIN, name, ...describeOrClose(name, dup(fd), stats, direction, size) };
}

/** Refuses a sink that standard error goes to, as after `2>&1`: messages would get into the stream. */
function refuseMessages(fd: number, stats: Stats): void {
  // /dev/null may be both.
  if (stats.isCharacterDevice() || !isSameFile(fd, STDERR_FILENO)) return;
  throw new UnusableError(
    "standard error goes there, too, and messages would get into the stream",
    "leave out 2>&1, or redirect it to a file of its own, such as 2> messages",
  );
}

/** fstat(2) of an inherited descriptor; undefined for any other. */
function statInherited(fd: number): Stats | undefined {
  // Where one of the first three is closed, Bun opens /dev/null, close-on-exec. An inherited descriptor
  // is never close-on-exec.
  const openedByBun = (number: number) => number <= STDERR_FILENO && closesOnExec(number);
  try {
    return isInherited(fd) && !openedByBun(fd) ? fstatSync(fd) : undefined;
  } catch {
    return undefined;
  }
}

/** Calls {@link describe}, and closes the descriptor when it throws. */
export function describeOrClose(
  ...described: Parameters<typeof describe>
): ReturnType<typeof describe> {
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
 * Determines the kind of endpoint that a descriptor is and, for a source, its length.
 *
 * @param size the stream's length in bytes if known
 * @throws UnusableError when it cannot be an endpoint, or is too small
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

/** @throws UnusableError for a socket of datagrams or a listening one */
function requireConnection(fd: number): void {
  if (!isStream(fd)) {
    throw new UnusableError("it is a socket for messages", "make it one for a stream: SOCK_STREAM");
  }
  if (isListening(fd)) {
    throw new UnusableError("it is a socket that listens", "name one that it has accepted");
  }
}

/** Bytes from the position to the end; undefined for a character device. */
function lengthLeft(fd: number, stats: Stats): bigint | undefined {
  if (!stats.isFile() && !stats.isBlockDevice()) return undefined;
  const size = stats.isFile() ? stats.size : deviceSize(fd);
  return BigInt(Math.max(0, size - seekBy(fd, 0)));
}
