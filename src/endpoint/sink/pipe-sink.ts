/** The writing end of a pipe as the sink: the fast one, since splice(2) needs no detour. */
import { ERRNO, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { bytesReadable, close, writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { growPipe, splice } from "../../../ffi/pipe.ts";
import { EndpointError, guarded } from "../guarded.ts";
import { reopenPipe } from "../reopen.ts";
import type { Sink } from "./sink.ts";
import { ZeroPipe } from "../zero-pipe.ts";

/** A pipe that somebody else has opened, by its descriptor, which this object then owns. */
export class PipeSink implements Sink {
  readonly held = 0;
  #fd = -1;
  #zeroes: ZeroPipe | undefined;
  #given: number;

  constructor(
    readonly name: string,
    given = -1,
  ) {
    this.#given = given;
  }

  get fd(): number {
    return this.#fd;
  }

  open(): boolean {
    const fd = guarded(() => reopenPipe(this.#given, O_WRONLY));
    this.#given = -1;
    this.opened(fd);
    return true;
  }

  /** Takes a non-blocking descriptor of the pipe. */
  protected opened(fd: number): void {
    this.#fd = fd;
    growPipe(fd);
  }

  splice(socket: number, length: number): number {
    try {
      return splice(socket, this.#fd, length);
    } catch (error) {
      // Of the two ends only the pipe fails with EPIPE; anything else is the socket's trouble.
      if (error instanceof SyscallError && error.errno === ERRNO.EPIPE)
        throw new EndpointError(error);
      throw error;
    }
  }

  writev(vector: IoVec): number {
    return guarded(() => writev(this.#fd, vector));
  }

  zeroes(length: number): number {
    return guarded(() => (this.#zeroes ??= new ZeroPipe()).copyTo(this.#fd, length));
  }

  flush(): boolean {
    return true;
  }

  unread(): number {
    return bytesReadable(this.#fd);
  }

  complete(): void {
    // A pipe keeps nothing.
  }

  close(): void {
    for (const fd of [this.#fd, this.#given]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#given = -1;
    this.#zeroes?.close();
    this.#zeroes = undefined;
  }
}
