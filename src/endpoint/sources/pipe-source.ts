/** A source that is a pipe or a FIFO (fifo(7)), out of which splice(2) moves data directly. */
import { O_NONBLOCK, O_RDONLY, POLLHUP, POLLIN } from "../../../ffi/constants.ts";
import { bytesReadable, close, open, read } from "../../../ffi/fd.ts";
import { endpointCall, toEndpointError } from "../error.ts";
import { PipeEnd, requireFifo } from "../pipe-end.ts";
import type { Source } from "./source.ts";
import { pollOne } from "../../../ffi/poll.ts";
import { Memory } from "../../../ffi/memory.ts";
import { closePipe, type Pipe, pipe, tee } from "../../../ffi/pipe.ts";

export class PipeSource extends PipeEnd implements Source {
  readonly #probe = new WriterProbe();

  constructor(name: string, fd = -1) {
    super(name, O_RDONLY, fd);
  }

  get pipe(): number {
    return this.fd;
  }

  fill(): number {
    try {
      return bytesReadable(this.fd) || this.#probe.look(this.fd);
    } catch (error) {
      throw toEndpointError(error);
    }
  }

  override close(): void {
    super.close();
    this.#probe.close();
  }
}

/**
 * The reading end of a FIFO. It is opened without blocking, so that the writer finds a reader at once;
 * end of file means nothing until there has been a writer.
 */
export class FifoSource extends PipeSource {
  /** The descriptor until there has been a writer; -1 afterwards. */
  #waiting = -1;

  constructor(readonly path: string) {
    super(path);
  }

  override open(): boolean {
    if (this.#waiting < 0) this.#waiting = endpointCall(() => this.#openFifo());
    if (!endpointCall(() => hasHadWriter(this.#waiting))) return false;
    this.opened(this.#waiting);
    this.#waiting = -1;
    return true;
  }

  #openFifo(): number {
    const fd = open(this.path, O_RDONLY | O_NONBLOCK);
    requireFifo(fd, this.path);
    return fd;
  }

  override close(): void {
    if (this.#waiting >= 0) close(this.#waiting);
    this.#waiting = -1;
    super.close();
  }
}

/** True when there is a writer, or has been one since the descriptor was opened. */
function hasHadWriter(fd: number): boolean {
  const probe = new WriterProbe();
  try {
    if (probe.look(fd) !== 0) return true;
  } finally {
    probe.close();
  }
  // Only poll(2) shows a writer that has closed its end without writing.
  return (pollOne(fd, POLLIN) & (POLLIN | POLLHUP)) !== 0;
}

/**
 * Tells whether an empty pipe has a writer. Reading would tell, and so does tee(2), which leaves the
 * data in the pipe. poll(2) reports POLLHUP only after a writer has left since the descriptor was
 * opened.
 */
export class WriterProbe {
  #copy: Pipe | undefined;
  readonly #byte = new Memory(1);

  /** @returns 1 when the pipe has data, 0 at end of file, WOULD_BLOCK when it is empty with a writer */
  look(fd: number): number {
    const copy = (this.#copy ??= pipe(O_NONBLOCK));
    const n = tee(fd, copy.write, 1);
    if (n > 0) read(copy.read, this.#byte.at(0), 1);
    return n;
  }

  close(): void {
    if (this.#copy !== undefined) closePipe(this.#copy);
    this.#copy = undefined;
  }
}
