/** A named pipe as the sink (fifo(7)). */
import { fstatSync } from "node:fs";
import { ERRNO, O_NONBLOCK, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close, lock, open } from "../../../ffi/fd.ts";
import { EndpointError } from "../guarded.ts";
import { PipeSink } from "./pipe-sink.ts";

/**
 * The writing end of a FIFO. It is opened for writing only, so that a reader that dies is noticed
 * (EPIPE, POLLERR), and without blocking: until there is a reader, open(2) fails with ENXIO. A lock
 * keeps other streams out, as a reader of two would get them mixed, and neither would notice.
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
      throw new EndpointError(error);
    }
    if (!fstatSync(fd).isFIFO()) {
      // It was one when the program started: somebody has put another file in its place.
      close(fd);
      throw new EndpointError(new SyscallError("open", ERRNO.EINVAL, this.path));
    }
    try {
      lock(fd, this.path);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      // A file system without locks has no other way to tell.
      if (error.errno === ERRNO.EAGAIN) {
        close(fd);
        throw new EndpointError(error);
      }
    }
    this.opened(fd);
    return true;
  }
}
