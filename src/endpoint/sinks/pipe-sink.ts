/** A sink that is a pipe or a FIFO (fifo(7)), into which splice(2) moves data directly. */
import { ERRNO, O_NONBLOCK, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { bytesReadable, close, lock, open, writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { splice } from "../../../ffi/pipe.ts";
import { EndpointError, endpointCall, toEndpointError } from "../error.ts";
import { PipeEnd, requireFifo } from "../pipe-end.ts";
import type { Sink } from "./sink.ts";
import { ZeroPipe } from "../zero-pipe.ts";

export class PipeSink extends PipeEnd implements Sink {
  readonly held = 0;
  #zeroes: ZeroPipe | undefined;

  constructor(name: string, fd = -1) {
    super(name, O_WRONLY, fd);
  }

  splice(from: number, length: number): number {
    try {
      return splice(from, this.fd, length);
    } catch (error) {
      // Only the pipe fails with EPIPE; any other error is the other side's.
      if (error instanceof SyscallError && error.errno === ERRNO.EPIPE)
        throw new EndpointError(error);
      throw error;
    }
  }

  spliceFile(fd: number, length: number): number {
    return this.splice(fd, length);
  }

  writev(vector: IoVec): number {
    try {
      return writev(this.fd, vector);
    } catch (error) {
      throw toEndpointError(error);
    }
  }

  zeroes(length: number): number {
    try {
      return (this.#zeroes ??= new ZeroPipe()).copyTo(this.fd, length);
    } catch (error) {
      throw toEndpointError(error);
    }
  }

  flush(): boolean {
    return true;
  }

  /** 0 means that the reader has read all: unread data stays in the pipe when the reader closes its end. */
  unread(): number {
    return endpointCall(() => bytesReadable(this.fd));
  }

  complete(): boolean {
    this.end();
    return true;
  }

  override close(): void {
    super.close();
    this.#zeroes?.close();
    this.#zeroes = undefined;
  }
}

/**
 * The writing end of a FIFO. It is opened for writing only, so that the death of the reader shows
 * (EPIPE, POLLERR), and without blocking: until there is a reader, open(2) fails with ENXIO. A lock
 * keeps other streams out: two streams would be mixed, and neither would notice.
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
    requireFifo(fd, this.path);
    try {
      lock(fd, this.path);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      // On a file system without locks, other streams cannot be detected.
      if (error.errno === ERRNO.EAGAIN) {
        close(fd);
        throw new EndpointError(error);
      }
    }
    this.opened(fd);
    return true;
  }
}
