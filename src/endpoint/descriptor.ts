/** `pipe=-` and `pipe=fd:N`: a descriptor that the program was started with. */
import { fstatSync, type Stats } from "node:fs";
import { isatty } from "node:tty";
import { dup } from "../../ffi/fd.ts";
import { type Destination, PLAIN } from "./destination.ts";
import type { SinkSpec } from "./spec.ts";
import { UnusableError } from "./unusable.ts";

/**
 * @param name what the user called it
 * @throws UnusableError for a terminal, a folder, and what is not open
 */
export function inheritDescriptor(name: string, fd: number): Destination {
  let stats: Stats;
  try {
    stats = fstatSync(fd);
  } catch {
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

/** What kind of sink a descriptor is. @throws UnusableError when it is none */
export function descriptorSpec(name: string, fd: number, stats: Stats): SinkSpec {
  if (stats.isFIFO()) return { kind: "pipe", name, fd };
  if (stats.isSocket()) return { kind: "socket", name, fd };
  if (stats.isFile() || stats.isBlockDevice() || stats.isCharacterDevice()) {
    return { kind: "file", name, fd };
  }
  throw new UnusableError("nothing can be written to it", "name a pipe, a socket or a device");
}
