/** The other end of the self-test's FIFO: a reader or a writer that never waits in the kernel. */
import { ERRNO, O_NONBLOCK, O_RDONLY, O_WRONLY } from "../../ffi/constants.ts";
import type { SyscallError } from "../../ffi/errno.ts";
import { close, open, read, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";

const MiB = 1024 * 1024;

/** Takes what comes out of a FIFO. */
export class FifoReader implements Disposable {
  readonly #fd: number;
  readonly #hash = new Bun.CryptoHasher("sha256");
  readonly #memory = new Memory(MiB);
  #length = 0;
  #closed = false;
  readonly #done: Promise<void>;

  constructor(path: string) {
    this.#fd = open(path, O_RDONLY | O_NONBLOCK);
    this.#done = this.#run();
    // It is asked for later, or not at all.
    this.#done.catch(() => {});
  }

  /** Resolves at the end of the stream. */
  async end(): Promise<{ readonly length: number; readonly digest: string }> {
    await this.#done;
    return { length: this.#length, digest: this.#hash.digest("hex") };
  }

  [Symbol.dispose](): void {
    if (!this.#closed) close(this.#fd);
    this.#closed = true;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const n = read(this.#fd, this.#memory.at(0), this.#memory.length);
      // Before the first writer there is end of file, too.
      if (n === 0 && this.#length > 0) return;
      if (n > 0) {
        this.#hash.update(this.#memory.bytes.subarray(0, n));
        this.#length += n;
      }
      await Bun.sleep(n > 0 ? 0 : 1);
    }
  }
}

/** Gives bytes into a FIFO, and then ends. */
export class FifoWriter implements Disposable {
  readonly #memory: Memory;
  #closed = false;

  constructor(path: string, bytes: Uint8Array) {
    this.#memory = new Memory(bytes);
    // A reader that goes away has more to complain of.
    this.#run(path).catch(() => {});
  }

  [Symbol.dispose](): void {
    this.#closed = true;
  }

  async #run(path: string): Promise<void> {
    const fd = await this.#open(path);
    try {
      for (let given = 0; given < this.#memory.length && !this.#closed;) {
        const n = write(fd, this.#memory.at(given), this.#memory.length - given);
        if (n > 0) given += n;
        else await Bun.sleep(1);
      }
    } finally {
      close(fd);
    }
  }

  /** Without a reader, a FIFO cannot be opened for writing (fifo(7)). */
  async #open(path: string): Promise<number> {
    for (;;) {
      try {
        return open(path, O_WRONLY | O_NONBLOCK);
      } catch (error) {
        if ((error as SyscallError).errno !== ERRNO.ENXIO || this.#closed) throw error;
        await Bun.sleep(1);
      }
    }
  }
}
