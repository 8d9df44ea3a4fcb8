/** A named pipe as the source (fifo(7)). */
import { fstatSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_RDONLY, POLLHUP, POLLIN } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close, open } from "../../../ffi/fd.ts";
import { PollSet } from "../../../ffi/poll.ts";
import { EndpointError, guarded } from "../guarded.ts";
import { PipeSource } from "./pipe-source.ts";
import { Probe } from "./probe.ts";

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
    if (this.#waiting < 0) this.#waiting = guarded(() => this.#openFifo());
    if (!guarded(() => hasHadWriter(this.#waiting))) return false;
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
