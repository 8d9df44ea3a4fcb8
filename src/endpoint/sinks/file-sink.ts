/** A regular file (standard output, redirected) or a device as the sink. */
import { fstatSync } from "node:fs";
import { ERRNO, O_APPEND } from "../../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../../ffi/errno.ts";
import { openFlags, seekBy, syncData, truncate, write } from "../../../ffi/fd.ts";
import { type IoVec, Memory } from "../../../ffi/memory.ts";
import { EndpointError, endpointCall } from "../error.ts";
import type { Relay } from "../relay.ts";
import { RelayedSink } from "./relayed-sink.ts";

/** Zeroes from this many on become a hole where there can be one; below it they are written. */
const HOLE_MIN = 64 * 1024;

/**
 * Its position is the file's own, so that whoever shares it goes on where the stream ended. Writing
 * to a disk is not waited for by poll(2): this is the one sink whose calls take as long as they take.
 */
export class FileSink extends RelayedSink {
  /** Made when splice(2) turns out not to work. */
  #buffer: Memory | undefined;
  #zeroBuffer: Memory | undefined;
  #regular = false;
  /** What was skipped at the end and is no part of the file yet. */
  #trailingHole = false;

  override open(): boolean {
    super.open();
    this.#regular = fstatSync(this.fd).isFile();
    // splice(2) refuses files in append mode.
    if ((endpointCall(() => openFlags(this.fd)) & O_APPEND) !== 0) this.#copies();
    return true;
  }

  override writev(vector: IoVec): number {
    const n = super.writev(vector);
    this.#trailingHole = false;
    return n;
  }

  zeroes(length: number): number {
    if (length >= HOLE_MIN && this.#atEnd()) {
      endpointCall(() => seekBy(this.fd, length));
      this.#trailingHole = true;
      return length;
    }
    this.#zeroBuffer ??= new Memory(HOLE_MIN);
    const zeroes = this.#zeroBuffer;
    const n = endpointCall(() => write(this.fd, zeroes.at(0), Math.min(length, zeroes.length)));
    this.#trailingHole = false;
    return n;
  }

  flush(): boolean {
    if (this.held === 0) return true;
    this.#trailingHole = false;
    if (this.#buffer === undefined) {
      try {
        return endpointCall(() => this.relay.drainTo(this.fd));
      } catch (error) {
        // Not every device can be spliced to.
        if (!(error instanceof EndpointError) || error.cause.errno !== ERRNO.EINVAL) throw error;
      }
    }
    this.#copy(this.relay, this.#copies());
    return true;
  }

  unread(): number {
    return 0;
  }

  complete(): boolean {
    endpointCall(() => {
      if (this.#trailingHole) truncate(this.fd, seekBy(this.fd, 0));
      this.#sync();
    });
    this.end();
    return true;
  }

  #copies(): Memory {
    return (this.#buffer ??= new Memory(1 << 20));
  }

  #copy(relay: Relay, buffer: Memory): void {
    while (relay.held > 0) {
      const length = relay.drainInto(buffer);
      for (let at = 0; at < length;) {
        const n = endpointCall(() => write(this.fd, buffer.at(at), length - at));
        // A device that was opened non-blocking by somebody else; it is rare enough to wait for it.
        if (n === WOULD_BLOCK) Bun.sleepSync(1);
        else at += n;
      }
    }
  }

  /** True where skipping leaves a hole: at or past the end of a regular file (lseek(2)). */
  #atEnd(): boolean {
    if (!this.#regular || this.#buffer !== undefined) return false;
    return endpointCall(() => seekBy(this.fd, 0)) >= fstatSync(this.fd).size;
  }

  /** Errors of a disk may come as late as this. */
  #sync(): void {
    try {
      syncData(this.fd);
    } catch (error) {
      // A device that keeps nothing has nothing to sync: /dev/null, a tape.
      const none = error instanceof SyscallError && error.errno === ERRNO.EINVAL;
      if (!none) throw error;
    }
  }
}
