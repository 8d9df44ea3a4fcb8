/** `pipe=PATH` and `read=PATH` of a named pipe, or of nothing yet (fifo(7)). */
import { accessSync, constants, statSync, type Stats, unlinkSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close, open } from "../../../ffi/fd.ts";
import { mkfifo } from "../../../ffi/pipe.ts";
import { type Direction, UnusableError } from "../spec.ts";
import { type Endpoint, PLAIN } from "../opening/endpoint.ts";
import { refuseOwnPipeEnd } from "../opening/own-end.ts";

/** Only the user may read what may be a whole disk. */
const MODE = 0o600;

/**
 * Makes sure that there is a FIFO at `path`: makes one (mode 0600) if there is nothing. Removes it
 * at the end if it made it and it is still the same one.
 *
 * @throws UnusableError when something else is there
 * @throws Error of the file system when it cannot be made, or not be opened
 */
export function prepareFifo(path: string, direction: Direction): Endpoint {
  let stats = statOrNothing(path);
  let made = false;
  if (stats === undefined) {
    try {
      mkfifo(path, MODE);
      made = true;
    } catch (error) {
      // Somebody else may have made it in between; what it is, is checked below.
      if (!(error instanceof SyscallError) || error.errno !== ERRNO.EEXIST) throw error;
    }
    stats = statOrNothing(path);
  }
  if (stats === undefined) {
    throw new UnusableError("it is a symbolic link to nothing", "remove it, or name a FIFO");
  }
  if (!stats.isFIFO()) throw new UnusableError("it is no named pipe any more", "try again");
  refuseOwnPipeEnd(stats, direction);
  accessSync(path, direction === "write" ? constants.W_OK : constants.R_OK);
  const { dev, ino } = stats;
  return {
    ...PLAIN,
    name: path,
    handle: { kind: "fifo", path },
    remove() {
      if (!made) return;
      const now = statOrNothing(path);
      // The number alone would not do: a file system may give it to the next file.
      if (!now?.isFIFO() || now.dev !== dev || now.ino !== ino) return;
      // Whoever waits there in open(2), or comes until it is gone, would wait for ever.
      const ends = tryOpen(path, O_RDWR);
      unlinkSync(path);
      if (ends !== undefined) close(ends);
    },
  };
}

/**
 * For the end of a stream that has never opened its FIFO: whoever waits in open(2) for the stream's end of
 * it is let in, and finds a stream of no bytes that has ended already, or a reader that has gone. Nobody
 * else notices; others that have this end open go on. Does nothing with what is no FIFO.
 */
export function releaseFifo(path: string, direction: Direction): void {
  try {
    if (!statOrNothing(path)?.isFIFO()) return;
  } catch {
    // Then the stream could not have opened it either.
    return;
  }
  // For writing, it fails where nobody reads or waits to (ENXIO).
  const end = tryOpen(path, direction === "write" ? O_WRONLY : O_RDONLY);
  if (end !== undefined) close(end);
}

function tryOpen(path: string, access: number): number | undefined {
  try {
    return open(path, access | O_NONBLOCK);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}

function statOrNothing(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
