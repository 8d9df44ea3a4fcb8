/** A pipe or a FIFO as the source (fifo(7)): the fast kind, since splice(2) needs no detour. */
import { ERRNO, O_NONBLOCK, O_RDONLY, POLLHUP, POLLIN } from "../../../ffi/constants.ts";
import { bytesReadable, close, open, read } from "../../../ffi/fd.ts";
import { EndpointError, endpointCall, toEndpointError } from "../error.ts";
import { PipeEnd } from "../pipe-end.ts";
import type { Source } from "./source.ts";
import { fstatSync } from "node:fs";
import { SyscallError } from "../../../ffi/errno.ts";
import { PollSet } from "../../../ffi/poll.ts";
import { Memory } from "../../../ffi/memory.ts";
import { pipe, tee } from "../../../ffi/pipe.ts";

export class PipeSource extends PipeEnd implements Source {
  readonly #probe = new Probe();

  constructor(name: string, given = -1) {
    super(name, O_RDONLY, given);
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
 * The reading end of a FIFO. It is opened without blocking, so that the writer finds a reader at
 * once; an end of file means nothing until there has been a writer.
 */
export class FifoSource extends PipeSource {
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
    if (fstatSync(fd).isFIFO()) return fd;
    // It was one when the program started: somebody has put another file in its place.
    close(fd);
    throw new EndpointError(new SyscallError("open", ERRNO.EINVAL, this.path));
  }

  override close(): void {
    if (this.#waiting >= 0) close(this.#waiting);
    this.#waiting = -1;
    super.close();
  }
}

/** True when a writer is there, or has been since the descriptor was opened. */
function hasHadWriter(fd: number): boolean {
  const probe = new Probe();
  try {
    if (probe.look(fd) !== 0) return true;
  } finally {
    probe.close();
  }
  // One that came and went without a word is seen by poll(2) only.
  const poll = new PollSet();
  const at = poll.add(fd, POLLIN);
  poll.wait(0);
  return (poll.revents(at) & (POLLIN | POLLHUP)) !== 0;
}

/**
 * An empty pipe is one thing with a writer and another without. Only reading tells which, and so
 * does tee(2), which leaves in the pipe what it copies. poll(2) does not: it says POLLHUP only of a
 * writer that has left since the descriptor was opened.
 */
export class Probe {
  #copy: { read: number; write: number } | undefined;
  readonly #byte = new Memory(1);

  /** @returns 1 when there is something in the pipe, 0 at its end, WOULD_BLOCK when more may come */
  look(fd: number): number {
    const copy = (this.#copy ??= pipe(O_NONBLOCK));
    const n = tee(fd, copy.write, 1);
    if (n > 0) read(copy.read, this.#byte.at(0), 1);
    return n;
  }

  close(): void {
    if (this.#copy === undefined) return;
    close(this.#copy.read);
    close(this.#copy.write);
    this.#copy = undefined;
  }
}
