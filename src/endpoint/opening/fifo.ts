/** `pipe=PATH` and `read=PATH` of a FIFO (fifo(7)), or of a path where there is nothing yet. */
import { accessSync, constants, statSync, type Stats, unlinkSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close, open } from "../../../ffi/fd.ts";
import { mkfifo } from "../../../ffi/pipe.ts";
import { type Direction, UnusableError } from "../spec.ts";
import { type Endpoint, PLAIN } from "./endpoint.ts";
import { refuseOwnPipeEnd } from "./own-end.ts";

/** Only the user may read the stream, which may be a whole disk. */
const MODE = 0o600;

/**
 * Makes a FIFO at `path` (mode 0600) if there is nothing. `remove` then unlinks it if it is still the
 * same.
 *
 * @throws UnusableError when something else is there
 * @throws Error of the file system when the FIFO cannot be made or opened
 */
export function prepareFifo(path: string, direction: Direction): Endpoint {
  let stats = statOrNothing(path);
  let made = false;
  if (stats === undefined) {
    try {
      mkfifo(path, MODE);
      made = true;
    } catch (error) {
      // Another process may have made a file there in between, which is checked below.
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
      // The type as well, as a file system may reuse the inode number for the next file.
      if (!now?.isFIFO() || now.dev !== dev || now.ino !== ino) return;
      // Lets in the processes that wait in open(2): after unlink(2) they would wait for ever.
      const ends = tryOpen(path, O_RDWR);
      unlinkSync(path);
      if (ends !== undefined) close(ends);
    },
  };
}

/**
 * Opens and closes the stream's end of a FIFO, for a stream that has ended without opening it. A
 * process that waits in open(2) for that end is let in, and sees an empty stream that has ended, or a
 * reader that has gone. Other processes that have the FIFO open notice nothing. Does nothing if it is
 * no FIFO.
 */
export function releaseFifo(path: string, direction: Direction): void {
  try {
    if (!statOrNothing(path)?.isFIFO()) return;
  } catch {
    // The stream could not have opened it either.
    return;
  }
  // For writing, it fails without a reader, open or waiting (ENXIO).
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
