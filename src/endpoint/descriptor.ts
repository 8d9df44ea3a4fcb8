/** `pipe=-` and `pipe=fd:N`: a descriptor that the program was started with. */
import { fstatSync, type Stats } from "node:fs";
import { isatty } from "node:tty";
import { O_ACCMODE, O_RDONLY } from "../../ffi/constants.ts";
import { closesOnExec, dup, openFlags } from "../../ffi/fd.ts";
import { isInherited } from "../process/inherited.ts";
import { type Destination, PLAIN } from "./destination.ts";
import type { SinkSpec } from "./spec.ts";
import { UnusableError } from "./unusable.ts";

const STDERR = 2;

/**
 * @param name what the user called it
 * @throws UnusableError for a terminal, a folder, and what is not open
 */
export function inheritDescriptor(name: string, fd: number): Destination {
  const stats = statInherited(fd);
  if (stats === undefined) {
    throw new UnusableError(
      `descriptor ${fd} is not open`,
      `redirect it where the program is started: ${fd}> FILE, or ${fd}>&1`,
    );
  }
  if (isatty(fd)) {
    throw new UnusableError("it is a terminal", "redirect it to a file or pipe it into a command");
  }
  return { ...PLAIN, name, spec: descriptorSpec(name, dup(fd), stats) };
}

/** What the user has left open for us under this number, if anything. */
function statInherited(fd: number): Stats | undefined {
  // Bun puts /dev/null where one of the first three is closed. Nothing that a program is started
  // with is close-on-exec, but that is.
  const standIn = (number: number) => number <= STDERR && closesOnExec(number);
  try {
    return isInherited(fd) && !standIn(fd) ? fstatSync(fd) : undefined;
  } catch {
    return undefined;
  }
}

/** What kind of sink a descriptor is. @throws UnusableError when it is none */
export function descriptorSpec(name: string, fd: number, stats: Stats): SinkSpec {
  if ((openFlags(fd) & O_ACCMODE) === O_RDONLY) {
    throw new UnusableError("it is open for reading only", "open it for writing");
  }
  if (stats.isFIFO()) return { kind: "pipe", name, fd };
  if (stats.isSocket()) return { kind: "socket", name, fd };
  if (stats.isFile() || stats.isBlockDevice() || stats.isCharacterDevice()) {
    return { kind: "file", name, fd };
  }
  throw new UnusableError("nothing can be written to it", "name a pipe, a socket or a device");
}
