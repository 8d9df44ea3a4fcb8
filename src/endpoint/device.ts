/** `pipe=PATH` of a character or block device. */
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { O_WRONLY } from "../../ffi/constants.ts";
import { close, open } from "../../ffi/fd.ts";
import { descriptorSpec } from "./descriptor.ts";
import { type Destination, PLAIN } from "./destination.ts";
import { UnusableError } from "./unusable.ts";

/** @throws UnusableError for a terminal; SyscallError when it cannot be opened */
export function openDevice(path: string): Destination {
  const fd = open(path, O_WRONLY);
  if (isatty(fd)) {
    close(fd);
    throw new UnusableError("it is a terminal", "name a pipe, a socket or another device");
  }
  return { ...PLAIN, name: path, spec: descriptorSpec(path, fd, fstatSync(fd)) };
}
