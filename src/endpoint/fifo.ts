/** A named pipe as the sink (fifo(7)). */
import { accessSync, constants, fstatSync, statSync, type Stats, unlinkSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open } from "../../ffi/fd.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { type Destination, PLAIN } from "./destination.ts";
import { PipeSink } from "./pipe-sink.ts";
import { SinkError } from "./sink.ts";
import { UnusableError } from "./unusable.ts";

/** Only the user may read what may be a whole disk. */
const MODE = 0o600;

/**
 * Makes sure that there is a FIFO at `path`: makes one (mode 0600) if there is nothing. Removes it
 * at the end if it made it and it is still the same one.
 *
 * @throws UnusableError when something else is there
 * @throws Error of the file system when it cannot be made, or not be written
 */
export function prepareFifo(path: string): Destination {
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
  accessSync(path, constants.W_OK);
  const { dev, ino } = stats;
  return {
    ...PLAIN,
    name: path,
    spec: { kind: "fifo", path },
    remove() {
      if (!made) return;
      const now = statOrNothing(path);
      // The number alone would not do: a file system may give it to the next file.
      if (now?.isFIFO() && now.dev === dev && now.ino === ino) unlinkSync(path);
    },
  };
}

function statOrNothing(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/**
 * The writing end of a FIFO. It is opened for writing only, so that a reader that dies is noticed
 * (EPIPE, POLLERR), and without blocking: until there is a reader, open(2) fails with ENXIO.
 */
export class FifoSink extends PipeSink {
  constructor(readonly path: string) {
    super(path);
  }

  override open(): boolean {
    let fd: number;
    try {
      fd = open(this.path, O_WRONLY | O_NONBLOCK);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (error.errno === ERRNO.ENXIO) return false;
      throw new SinkError(error);
    }
    if (!fstatSync(fd).isFIFO()) {
      // It was one when the program started: somebody has put another file in its place.
      close(fd);
      throw new SinkError(new SyscallError("open", ERRNO.EINVAL, this.path));
    }
    this.opened(fd);
    return true;
  }
}
