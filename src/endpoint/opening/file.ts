/** `PATH` of a character or block device; as a source, of a regular file, too. */
import { fstatSync, statSync } from "node:fs";
import { isatty } from "node:tty";
import { O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { close, open } from "../../../ffi/fd.ts";
import { claimBlockDevice } from "./block-device.ts";
import { adopt } from "./descriptor.ts";
import { type Direction, UnusableError } from "../spec.ts";
import { type Endpoint, PLAIN } from "./endpoint.ts";

/**
 * @param size the stream's length in bytes, where it is known
 * @throws UnusableError for a terminal, and for a block device as the sink that is in use or too small;
 *   SyscallError when it cannot be opened
 */
export function openFile(path: string, direction: Direction, size: bigint | undefined): Endpoint {
  const fd =
    direction === "read"
      ? open(path, O_RDONLY)
      : statSync(path).isBlockDevice()
        ? claimBlockDevice(path, O_WRONLY)
        : open(path, O_WRONLY);
  if (isatty(fd)) {
    close(fd);
    throw new UnusableError("it is a terminal", "name a pipe, a socket or a file");
  }
  return { ...PLAIN, name: path, ...adopt(path, fd, fstatSync(fd), direction, size) };
}
