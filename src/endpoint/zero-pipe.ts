/** An endless supply of zeroes for pipes, without copying one of them. */
import { close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { growPipe, pipe, splice, tee } from "../../ffi/pipe.ts";
import { send, socketpair } from "../../ffi/socket.ts";
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";

/**
 * The kernel keeps a message of this size that is sent over a Unix socket in one piece of memory,
 * and a pipe holds a piece in one of its slots, whatever its size. A page written by write(2) takes
 * a whole slot for 4 KiB; so a pipe full of these holds, and one tee(2) moves, eight times as much.
 */
const PIECE = 32 * 1024;

/** A pipe full of references to one piece of zeroes, made to be copied by tee(2). */
export class ZeroPipe {
  readonly #full = pipe(O_NONBLOCK);

  constructor() {
    growPipe(this.#full.write);
    const seed = pipe(O_NONBLOCK);
    const [near, far] = socketpair();
    try {
      const zeroes = new Memory(PIECE);
      send(near, zeroes.at(0), PIECE);
      splice(far, seed.write, PIECE);
      while (tee(seed.read, this.#full.write, PIECE) !== WOULD_BLOCK);
    } finally {
      for (const fd of [seed.read, seed.write, near, far]) close(fd);
    }
  }

  /** Copies up to `length` zeroes into the pipe `to`. @returns bytes copied, or WOULD_BLOCK */
  copyTo(to: number, length: number): number {
    return tee(this.#full.read, to, length);
  }

  close(): void {
    close(this.#full.read);
    close(this.#full.write);
  }
}
