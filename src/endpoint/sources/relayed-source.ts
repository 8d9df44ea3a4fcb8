/** A socket, a file or a device as the source: its bytes come by a private pipe. */
import { ERRNO, O_NONBLOCK } from "../../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable, close, read, write } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { growPipe, pipe, pipeSize, splice } from "../../../ffi/pipe.ts";
import { endpointCall } from "../error.ts";
import { setSharedNonBlocking } from "../shared-descriptor.ts";
import type { Source } from "./source.ts";

/** The pipe is filled up again when it holds less than this. */
const LOW = 256 * 1024;

/** The most that is read into memory at a time, in bytes. */
const COPIED = 64 * 1024;

/** Owns the descriptor that it is given. */
export class RelayedSource implements Source {
  #fd = -1;
  #given: number;
  #relay: { read: number; write: number } | undefined;
  #capacity = 0;
  #ended = false;
  /** What it has failed with: what had come before is still to be given. */
  #failure: unknown;
  #giveBack = () => {};
  /** Made when splice(2) turns out not to work. */
  #buffer: Memory | undefined;

  constructor(
    readonly name: string,
    given: number,
    readonly isSocket: boolean,
  ) {
    this.#given = given;
  }

  get fd(): number {
    return this.#fd;
  }

  get pipe(): number {
    return this.#relay?.read ?? -1;
  }

  open(): boolean {
    return endpointCall(() => {
      this.#relay = pipe(O_NONBLOCK);
      this.#capacity = growPipe(this.#relay.write);
      this.#fd = this.#given;
      this.#given = -1;
      if (this.isSocket) this.#giveBack = setSharedNonBlocking(this.#fd);
      return true;
    });
  }

  fill(): number {
    return endpointCall(() => {
      const held = bytesReadable(this.pipe);
      if (held >= LOW || this.#ended) return held;
      try {
        if (this.#failure !== undefined) throw this.#failure;
        const n = this.#take(held);
        this.#ended = n === 0;
        return n > 0 ? held + n : held || n;
      } catch (error) {
        // A connection is reset once: the next call would take it for an end.
        this.#failure = error;
        if (held > 0) return held;
        throw error;
      }
    });
  }

  /** @returns bytes taken, 0 at the end, or WOULD_BLOCK */
  #take(held: number): number {
    const relay = this.#relay as { read: number; write: number };
    if (this.#buffer === undefined) {
      try {
        return splice(this.#fd, relay.write, this.#capacity);
      } catch (error) {
        // Not every device can be spliced from.
        if (!(error instanceof SyscallError) || error.errno !== ERRNO.EINVAL) throw error;
      }
    }
    if (held > 0) return WOULD_BLOCK;
    // What is read has to go into the pipe whole, and that of a user who has many is small (pipe(7)).
    const buffer = (this.#buffer ??= new Memory(Math.min(COPIED, pipeSize(relay.write))));
    const n = read(this.#fd, buffer.at(0), buffer.length);
    if (n > 0) write(relay.write, buffer.at(0), n);
    return n;
  }

  close(): void {
    if (this.#fd >= 0) this.#giveBack();
    for (const fd of [this.#fd, this.#given, this.#relay?.read, this.#relay?.write]) {
      if (fd !== undefined && fd >= 0) close(fd);
    }
    this.#fd = -1;
    this.#given = -1;
    this.#relay = undefined;
  }
}
