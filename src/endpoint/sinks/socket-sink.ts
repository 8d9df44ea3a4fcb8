/** A sink that is a connected stream socket. */
import { POLLRDHUP } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { pollOne } from "../../../ffi/poll.ts";
import {
  bytesUnsent,
  isUnix,
  resetOnClose,
  shutdownWrite,
  socketError,
} from "../../../ffi/socket.ts";
import { EndpointError, endpointCall } from "../error.ts";
import { setSharedNonBlocking } from "../shared-descriptor.ts";
import { RelayedSink } from "./relayed-sink.ts";

/**
 * Milliseconds for a TCP reader to close its side after the end of the stream: one that closes before
 * it has read everything sends a reset. The limit is for readers that never close.
 */
const LINGER = 5000;

/**
 * Data that has left the queue of a Unix socket has been read, or was dropped when the reader closed
 * its end, which the socket then reports (ECONNRESET). TCP's queue holds only what the other host's
 * kernel has not acknowledged; whether the reader has read it is known at the earliest when the reader
 * closes.
 *
 * Until the stream is complete, closing a TCP connection resets it, even when SIGKILL ends this
 * process: a reader must not take the end of a truncated stream for the end of a complete one.
 */
export class SocketSink extends RelayedSink {
  #restoreFlags = () => {};
  /** True for a Unix socket: data that has left the queue has been read. */
  #isUnix = false;
  /** When this side was shut down, by performance.now(). */
  #shutDownAt: number | undefined;

  override open(): boolean {
    super.open();
    endpointCall(() => {
      this.#isUnix = isUnix(this.fd);
      this.#restoreFlags = setSharedNonBlocking(this.fd);
      if (!this.#isUnix) resetOnClose(this.fd, true);
    });
    return true;
  }

  zeroes(length: number): number {
    return this.relay.fillZeroes(length);
  }

  flush(): boolean {
    return endpointCall(() => this.relay.drainTo(this.fd));
  }

  unread(): number {
    // After shutdown(2), TCP counts the FIN as a byte.
    const unread = this.#shutDownAt === undefined ? endpointCall(() => bytesUnsent(this.fd)) : 0;
    // In this order: the kernel sets the error before it drops the queue.
    this.#requireReader();
    return unread;
  }

  complete(): boolean {
    if (this.#shutDownAt === undefined) {
      endpointCall(() => shutdownWrite(this.fd));
      this.#shutDownAt = performance.now();
    }
    const ended = this.#isUnix || this.#readerEnded();
    // In this order: a reset ends the reader's side, too.
    this.#requireReader();
    if (!ended && performance.now() < this.#shutDownAt + LINGER) return false;
    endpointCall(() => resetOnClose(this.fd, false));
    this.#restoreFlags();
    this.end();
    return true;
  }

  override close(): void {
    if (this.fd >= 0) this.#restoreFlags();
    super.close();
  }

  /** @throws EndpointError when the reader has closed its end with bytes unread */
  #requireReader(): void {
    const errno = endpointCall(() => socketError(this.fd));
    if (errno !== 0) throw new EndpointError(new SyscallError("send", errno));
  }

  /** True when the reader has closed its side. Data from the reader stays unread. */
  #readerEnded(): boolean {
    return (pollOne(this.fd, POLLRDHUP) & POLLRDHUP) !== 0;
  }
}
