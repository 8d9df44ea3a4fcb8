/** A named pipe as the sink (fifo(7)). */
import { accessSync, constants, fstatSync, statSync, type Stats, unlinkSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { bytesReadable, close, open, writev } from "../../ffi/fd.ts";
import type { IoVec } from "../../ffi/memory.ts";
import { growPipe, mkfifo, splice } from "../../ffi/pipe.ts";
import { SinkError, type Sink } from "./sink.ts";
import { ZeroPipe } from "./zero-pipe.ts";

/** Only the user may read what may be a whole disk. */
const MODE = 0o600;

/** What is wrong with a path that was to be a FIFO; `hint` says what to do about it. */
export class NotAFifoError extends Error {
  override readonly name = "NotAFifoError";
  constructor(
    what: string,
    readonly hint: string,
  ) {
    super(what);
  }
}

/** A FIFO's place in the file system, kept by the thread that cleans up. */
export interface PreparedFifo {
  readonly path: string;
  /** Removes the FIFO if this program made it and it is still the same one. */
  remove(): void;
}

/**
 * Makes sure that there is a FIFO at `path`: makes one (mode 0600) if there is nothing.
 *
 * @throws NotAFifoError when something else is there
 * @throws Error of the file system when it cannot be made, or not be written
 */
export function prepareFifo(path: string): PreparedFifo {
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
    throw new NotAFifoError("is a symbolic link to nothing", "remove it, or name a FIFO");
  }
  requireFifo(stats);
  accessSync(path, constants.W_OK);
  const { dev, ino } = stats;
  return {
    path,
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

function requireFifo(stats: Stats): void {
  if (stats.isFIFO()) return;
  if (stats.isFile()) {
    throw new NotAFifoError(
      "is a regular file, not a named pipe",
      "remove it, or name a FIFO and redirect its reader: cat FIFO > FILE",
    );
  }
  if (stats.isDirectory()) {
    throw new NotAFifoError("is a folder", "name a FIFO inside it");
  }
  if (stats.isSocket()) {
    throw new NotAFifoError("is a socket, not a named pipe", "name a FIFO");
  }
  throw new NotAFifoError("is a device, not a named pipe", "name a FIFO");
}

/**
 * The writing end of a FIFO. It is opened for writing only, so that a reader that dies is noticed
 * (EPIPE, POLLERR), and without blocking: until there is a reader, open(2) fails with ENXIO.
 */
export class FifoSink implements Sink {
  readonly name: string;
  #fd = -1;
  #zeroes: ZeroPipe | undefined;

  constructor(readonly path: string) {
    this.name = path;
  }

  get fd(): number {
    return this.#fd;
  }

  open(): boolean {
    try {
      this.#fd = open(this.path, O_WRONLY | O_NONBLOCK);
    } catch (error) {
      if (error instanceof SyscallError && error.errno === ERRNO.ENXIO) return false;
      throw asSinkError(error);
    }
    if (!fstatSync(this.#fd).isFIFO()) {
      // It was one when the program started: somebody has put another file in its place.
      this.close();
      throw new SinkError(new SyscallError("open", ERRNO.EINVAL, this.path));
    }
    growPipe(this.#fd);
    return true;
  }

  splice(socket: number, length: number): number {
    try {
      return splice(socket, this.#fd, length);
    } catch (error) {
      // Of the two ends only the pipe fails with EPIPE; anything else is the socket's trouble.
      if (error instanceof SyscallError && error.errno === ERRNO.EPIPE) throw new SinkError(error);
      throw error;
    }
  }

  writev(vector: IoVec): number {
    try {
      return writev(this.#fd, vector);
    } catch (error) {
      throw asSinkError(error);
    }
  }

  zeroes(length: number): number {
    this.#zeroes ??= new ZeroPipe();
    try {
      return this.#zeroes.copyTo(this.#fd, length);
    } catch (error) {
      throw asSinkError(error);
    }
  }

  unread(): number {
    return bytesReadable(this.#fd);
  }

  close(): void {
    if (this.#fd >= 0) close(this.#fd);
    this.#fd = -1;
    this.#zeroes?.close();
    this.#zeroes = undefined;
  }
}

function asSinkError(error: unknown): unknown {
  return error instanceof SyscallError ? new SinkError(error) : error;
}
