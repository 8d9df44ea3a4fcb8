/** A private pipe between the client's socket and a sink that is no pipe. */
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { read } from "../../ffi/fd.ts";
import { spliceInto } from "../../ffi/file.ts";
import type { Memory } from "../../ffi/memory.ts";
import { closePipe, growPipe, pipe, splice } from "../../ffi/pipe.ts";
import { ZeroPipe } from "./zero-pipe.ts";

/** splice(2) moves pages only into or out of a pipe. */
export class Relay {
  /** Bytes in the pipe. */
  held = 0;
  readonly #pipe = pipe(O_NONBLOCK);
  #zeroes: ZeroPipe | undefined;

  constructor() {
    growPipe(this.#pipe.write);
  }

  /** Moves bytes from a socket into the pipe; only while nothing is held. @returns the result of splice(2) */
  fill(socket: number, length: number): number {
    return this.#filled(splice(socket, this.#pipe.write, length));
  }

  /** Puts zeroes into the pipe; only while nothing is held. @returns bytes, or WOULD_BLOCK */
  fillZeroes(length: number): number {
    return this.#filled((this.#zeroes ??= new ZeroPipe()).copyTo(this.#pipe.write, length));
  }

  /** Moves what is held to the sink. @returns true when nothing is held any more */
  drainTo(fd: number): boolean {
    while (this.held > 0) {
      const n = splice(this.#pipe.read, fd, this.held);
      if (n === WOULD_BLOCK) return false;
      this.held -= n;
    }
    return true;
  }

  /** Writes what is held to a position of a file, which may wait for the disk. */
  drainAt(fd: number, at: number | bigint): void {
    let to = BigInt(at);
    while (this.held > 0) {
      const n = spliceInto(this.#pipe.read, fd, to, this.held);
      to += BigInt(n);
      this.held -= n;
    }
  }

  /**
   * Reads what is held into memory, up to the buffer's length. It counts as held until the caller, who gives it to
   * the sink, subtracts it.
   *
   * @returns bytes read
   */
  drainInto(buffer: Memory): number {
    return read(this.#pipe.read, buffer.at(0), Math.min(this.held, buffer.length));
  }

  close(): void {
    closePipe(this.#pipe);
    this.#zeroes?.close();
  }

  #filled(n: number): number {
    if (n > 0) this.held += n;
    return n;
  }
}
