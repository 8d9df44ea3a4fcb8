/** `PATH` of a character or block device; as a source, of a regular file, too. */
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { close, open } from "../../../ffi/fd.ts";
import { adopt } from "./descriptor.ts";
import type { Direction } from "../spec.ts";
import { type FarEnd, PLAIN } from "./far-end.ts";
import { UnusableError } from "./unusable.ts";

/** @throws UnusableError for a terminal; SyscallError when it cannot be opened */
export function openFile(path: string, direction: Direction): FarEnd {
  const fd = open(path, direction === "write" ? O_WRONLY : O_RDONLY);
  if (isatty(fd)) {
    close(fd);
    throw new UnusableError("it is a terminal", "name a pipe, a socket or a file");
  }
  return { ...PLAIN, name: path, ...adopt(path, fd, fstatSync(fd), direction) };
}
