/** A sink that is a regular file (standard output, redirected) or a device. */
import { fstatSync } from "node:fs";
import { ERRNO, O_APPEND } from "../../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../../ffi/errno.ts";
import { openFlags, seekBy, syncData, truncate, write } from "../../../ffi/fd.ts";
import { type IoVec, Memory } from "../../../ffi/memory.ts";
import { EndpointError, endpointCall } from "../error.ts";
import type { Relay } from "../relay.ts";
import { RelayedSink } from "./relayed-sink.ts";

/** The fewest bytes of zeroes that become a hole; fewer are written. */
const HOLE_MIN = 64 * 1024;

/**
 * Writes at the position of the open file, so that a process that shares it continues where the stream
 * ended. poll(2) does not wait for disks, so this is the one sink whose calls may block.
 */
export class FileSink extends RelayedSink {
  /** Allocated when splice(2) does not work on the file. */
  #buffer: Memory | undefined;
  #zeroBuffer: Memory | undefined;
  #regular = false;
  /** True when the last bytes were skipped, so that the file does not include them yet. */
  #trailingHole = false;

  override open(): boolean {
    super.open();
    this.#regular = fstatSync(this.fd).isFile();
    // splice(2) refuses files in append mode.
    if ((endpointCall(() => openFlags(this.fd)) & O_APPEND) !== 0) this.#allocateBuffer();
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
        // Not every device supports splice(2).
        if (!(error instanceof EndpointError) || error.cause.errno !== ERRNO.EINVAL) throw error;
      }
    }
    this.#copy(this.relay, this.#allocateBuffer());
    return true;
  }

  unread(): number {
    return 0;
  }

  complete(): boolean {
    endpointCall(() => {
      if (this.#trailingHole) this.#lengthen();
      this.#sync();
    });
    this.end();
    return true;
  }

  #allocateBuffer(): Memory {
    return (this.#buffer ??= new Memory(1 << 20));
  }

  #copy(relay: Relay, buffer: Memory): void {
    while (relay.held > 0) {
      const length = relay.drainInto(buffer);
      for (let at = 0; at < length;) {
        const n = endpointCall(() => write(this.fd, buffer.at(at), length - at));
        // The device was inherited with O_NONBLOCK, which is rare.
        if (n === WOULD_BLOCK) {
          Bun.sleepSync(1);
          continue;
        }
        at += n;
        relay.held -= n;
      }
    }
  }

  /** Gives the file the hole at its end, unless somebody else has made it longer since: ftruncate(2) would cut that off. */
  #lengthen(): void {
    const end = seekBy(this.fd, 0);
    if (fstatSync(this.fd).size < end) truncate(this.fd, end);
  }

  /** True at or past the end of a regular file, where skipping leaves a hole (lseek(2)). */
  #atEnd(): boolean {
    if (!this.#regular || this.#buffer !== undefined) return false;
    return endpointCall(() => seekBy(this.fd, 0)) >= fstatSync(this.fd).size;
  }

  /** Reports write errors that a disk had not reported yet. */
  #sync(): void {
    try {
      syncData(this.fd);
    } catch (error) {
      // Some devices cannot be synced: /dev/null, a tape.
      const unsupported = error instanceof SyscallError && error.errno === ERRNO.EINVAL;
      if (!unsupported) throw error;
    }
  }
}
