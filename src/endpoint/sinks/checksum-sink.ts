/** Wraps a sink and computes the checksum of the data that it accepts. */
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { read } from "../../../ffi/fd.ts";
import { IoVec, Memory } from "../../../ffi/memory.ts";
import { recv } from "../../../ffi/socket.ts";
import { type ChecksumAlgorithm, Digest } from "../checksum.ts";
import type { Sink } from "./sink.ts";

const BUFFER_SIZE = 1 << 20;

/** The data must be in memory for the checksum, so this uses recv(2) and writev(2) in place of splice(2). */
export class ChecksumSink implements Sink {
  readonly #inner: Sink;
  readonly #digest: Digest;
  readonly #buffer = new Memory(BUFFER_SIZE);
  /** Data that has been received, but not yet accepted by the inner sink. */
  readonly #held = new IoVec(1);
  #heldEnd = 0;

  constructor(inner: Sink, algorithm: ChecksumAlgorithm) {
    this.#inner = inner;
    this.#digest = new Digest(algorithm);
  }

  get name(): string {
    return this.#inner.name;
  }

  get fd(): number {
    return this.#inner.fd;
  }

  get held(): number {
    return this.#inner.held + this.#held.remaining;
  }

  open(): boolean {
    return this.#inner.open();
  }

  splice(socket: number, length: number): number {
    return this.#received(recv(socket, this.#buffer.at(0), Math.min(length, BUFFER_SIZE)));
  }

  spliceFile(fd: number, length: number): number {
    return this.#received(read(fd, this.#buffer.at(0), Math.min(length, BUFFER_SIZE)));
  }

  #received(n: number): number {
    if (n <= 0) return n;
    this.#held.push(this.#buffer.at(0), n);
    this.#heldEnd = n;
    return n;
  }

  writev(vector: IoVec): number {
    const n = this.#inner.writev(vector);
    if (n > 0) vector.each(n, (bytes) => this.#digest.update(bytes));
    return n;
  }

  zeroes(length: number): number {
    const n = this.#inner.zeroes(length);
    this.#digest.updateZeroes(n);
    return n;
  }

  flush(): boolean {
    while (this.#held.remaining > 0) {
      const n = this.#inner.writev(this.#held);
      if (n === WOULD_BLOCK) return false;
      const start = this.#heldEnd - this.#held.remaining;
      this.#digest.update(this.#buffer.bytes.subarray(start, start + n));
      this.#held.consume(n);
    }
    return this.#inner.flush();
  }

  unread(): number {
    return this.#inner.unread();
  }

  complete(): boolean {
    return this.#inner.complete();
  }

  digest(): string {
    return this.#digest.hex();
  }

  close(): void {
    this.#inner.close();
  }
}
