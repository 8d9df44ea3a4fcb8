/** Whether a pipe has a writer, asked without taking anything out of it. */
import { O_NONBLOCK } from "../../../ffi/constants.ts";
import { close, read } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { pipe, tee } from "../../../ffi/pipe.ts";

/**
 * An empty pipe is one thing with a writer and another without. Only reading tells which, and so
 * does tee(2), which leaves in the pipe what it copies. poll(2) does not: it says POLLHUP only of a
 * writer that has left since the descriptor was opened.
 */
export class Probe {
  #copy: { read: number; write: number } | undefined;
  readonly #byte = new Memory(1);

  /** @returns 1 when there is something in the pipe, 0 at its end, WOULD_BLOCK when more may come */
  look(fd: number): number {
    const copy = (this.#copy ??= pipe(O_NONBLOCK));
    const n = tee(fd, copy.write, 1);
    if (n > 0) read(copy.read, this.#byte.at(0), 1);
    return n;
  }

  close(): void {
    if (this.#copy === undefined) return;
    close(this.#copy.read);
    close(this.#copy.write);
    this.#copy = undefined;
  }
}
