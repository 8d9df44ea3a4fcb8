/** Real descriptors for tests, closed when the test is over. */
import { readFileSync } from "node:fs";
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { close, read, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pipe } from "../../ffi/pipe.ts";
import { socketpair } from "../../ffi/socket.ts";

/** Keeps the descriptors that a test has opened; `using` closes those that are left. */
export class Descriptors implements Disposable {
  readonly #open = new Set<number>();

  /** Takes charge of a descriptor. */
  keep(fd: number): number {
    this.#open.add(fd);
    return fd;
  }

  /** A non-blocking pipe. */
  pipe(): { read: number; write: number } {
    const ends = pipe(O_NONBLOCK);
    this.keep(ends.read);
    this.keep(ends.write);
    return ends;
  }

  socketpair(): [number, number] {
    const [one, other] = socketpair();
    return [this.keep(one), this.keep(other)];
  }

  /** Leaves one to somebody else, who closes it. */
  release(fd: number): void {
    this.#open.delete(fd);
  }

  /** Closes one of them early. */
  close(fd: number): void {
    this.#open.delete(fd);
    close(fd);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open) close(fd);
  }
}

/** The open file's flags and the descriptor's O_CLOEXEC, as the kernel shows them (proc(5)). */
export function flagsOf(fd: number): number {
  const [, flags = ""] =
    /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1")) ?? [];
  return Number.parseInt(flags, 8);
}

/** What a call throws. */
export function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

/** Writes all of `bytes`, which must fit. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  const memory = new Memory(bytes);
  const n = write(fd, memory.at(0), memory.length);
  if (n !== bytes.length) throw new Error(`wrote ${n} of ${bytes.length} bytes`);
}

/** Reads until there is nothing more for now. */
export function readAll(fd: number): Buffer {
  const parts: Buffer[] = [];
  const memory = new Memory(64 * 1024);
  for (;;) {
    const n = read(fd, memory.at(0), memory.length);
    if (n <= 0) return Buffer.concat(parts);
    parts.push(Buffer.from(memory.bytes.slice(0, n)));
  }
}

/** Writes to a pipe until it is full. @returns the bytes it took */
export function fill(fd: number): number {
  const memory = new Memory(4096);
  let total = 0;
  for (let n = 0; n >= 0; n = write(fd, memory.at(0), memory.length)) total += n;
  return total;
}
