/** The writing end of a pipe as the sink: the fast one, since splice(2) needs no detour. */
import { ERRNO, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { bytesReadable, writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { splice } from "../../../ffi/pipe.ts";
import { EndpointError, guarded, ofEndpoint } from "../guarded.ts";
import { PipeEnd } from "../pipe-end.ts";
import type { Sink } from "./sink.ts";
import { ZeroPipe } from "../zero-pipe.ts";

export class PipeSink extends PipeEnd implements Sink {
  readonly held = 0;
  #zeroes: ZeroPipe | undefined;

  constructor(name: string, given = -1) {
    super(name, O_WRONLY, given);
  }

  splice(socket: number, length: number): number {
    try {
      return splice(socket, this.fd, length);
    } catch (error) {
      // Of the two ends only the pipe fails with EPIPE; anything else is the socket's trouble.
      if (error instanceof SyscallError && error.errno === ERRNO.EPIPE)
        throw new EndpointError(error);
      throw error;
    }
  }

  writev(vector: IoVec): number {
    try {
      return writev(this.fd, vector);
    } catch (error) {
      throw ofEndpoint(error);
    }
  }

  zeroes(length: number): number {
    try {
      return (this.#zeroes ??= new ZeroPipe()).copyTo(this.fd, length);
    } catch (error) {
      throw ofEndpoint(error);
    }
  }

  flush(): boolean {
    return true;
  }

  /** What a reader leaves behind that closes its end stays in the pipe, so 0 means that it has had all. */
  unread(): number {
    return guarded(() => bytesReadable(this.fd));
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
