/** A source that is a socket, a file or a device: a private pipe relays its data. */
import { ERRNO, O_NONBLOCK } from "../../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable, read, write } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { closePipe, growPipe, type Pipe, pipe, pipeSize, splice } from "../../../ffi/pipe.ts";
import { endpointCall } from "../error.ts";
import { OwnedDescriptor } from "../owned-descriptor.ts";
import { setSharedNonBlocking } from "../shared-descriptor.ts";
import type { Source } from "./source.ts";

/** The pipe is refilled when it holds fewer bytes than this. */
const LOW_WATER = 256 * 1024;

/** The most bytes read into memory at a time. */
const MAX_READ = 64 * 1024;

export class RelayedSource extends OwnedDescriptor implements Source {
  #pipe: Pipe | undefined;
  #capacity = 0;
  #ended = false;
  /** The error of the source, to be thrown once the pipe is empty. */
  #failure: unknown;
  #restoreFlags = () => {};
  /** Allocated when splice(2) does not work on the source. */
  #buffer: Memory | undefined;

  constructor(
    name: string,
    fd: number,
    readonly isSocket: boolean,
  ) {
    super(name, fd);
  }

  get pipe(): number {
    return this.#pipe?.read ?? -1;
  }

  open(): boolean {
    return endpointCall(() => {
      this.#pipe = pipe(O_NONBLOCK);
      this.#capacity = growPipe(this.#pipe.write);
      this.opened(this.unopened);
      if (this.isSocket) this.#restoreFlags = setSharedNonBlocking(this.fd);
      return true;
    });
  }

  fill(): number {
    return endpointCall(() => {
      const held = bytesReadable(this.pipe);
      if (held >= LOW_WATER || this.#ended) return held;
      try {
        if (this.#failure !== undefined) throw this.#failure;
        const n = this.#take(held);
        this.#ended = n === 0;
        return n > 0 ? held + n : held || n;
      } catch (error) {
        // The socket reports a reset only once; the next call would look like end of file.
        this.#failure = error;
        if (held > 0) return held;
        throw error;
      }
    });
  }

  /** @returns bytes taken, 0 at the end, or WOULD_BLOCK */
  #take(held: number): number {
    const { write: end } = this.#pipe as Pipe;
    if (this.#buffer === undefined) {
      try {
        return splice(this.fd, end, this.#capacity);
      } catch (error) {
        // Not every device supports splice(2).
        if (!(error instanceof SyscallError) || error.errno !== ERRNO.EINVAL) throw error;
      }
    }
    if (held > 0) return WOULD_BLOCK;
    // All that is read must fit into the pipe, which is small for a user with many pipes (pipe(7)).
    const buffer = (this.#buffer ??= new Memory(Math.min(MAX_READ, pipeSize(end))));
    const n = read(this.fd, buffer.at(0), buffer.length);
    if (n > 0) write(end, buffer.at(0), n);
    return n;
  }

  override close(): void {
    if (this.fd >= 0) this.#restoreFlags();
    super.close();
    if (this.#pipe !== undefined) closePipe(this.#pipe);
    this.#pipe = undefined;
  }
}
