/** Zeroes for pipes, without copying. */
import { close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { closePipe, growPipe, pipe, splice, tee } from "../../ffi/pipe.ts";
import { send, socketpair } from "../../ffi/socket.ts";
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";

/**
 * The kernel keeps a message of this size, sent over a Unix socket, in one fragment of memory, and each
 * slot of a pipe holds one fragment of any size. A page written by write(2) takes a slot for 4 KiB, so
 * a pipe full of these fragments holds, and one tee(2) copies, eight times as much.
 */
const FRAGMENT = 32 * 1024;

/** A pipe full of references to one fragment of zeroes, which tee(2) copies into other pipes. */
export class ZeroPipe {
  readonly #full = pipe(O_NONBLOCK);

  constructor() {
    growPipe(this.#full.write);
    const seed = pipe(O_NONBLOCK);
    const [sender, receiver] = socketpair();
    try {
      const zeroes = new Memory(FRAGMENT);
      send(sender, zeroes.at(0), FRAGMENT);
      splice(receiver, seed.write, FRAGMENT);
      while (tee(seed.read, this.#full.write, FRAGMENT) !== WOULD_BLOCK);
    } finally {
      for (const fd of [seed.read, seed.write, sender, receiver]) close(fd);
    }
  }

  /** Copies up to `length` zeroes into the pipe `to`. @returns bytes copied, or WOULD_BLOCK */
  copyTo(to: number, length: number): number {
    return tee(this.#full.read, to, length);
  }

  close(): void {
    closePipe(this.#full);
  }
}
