/** A connected stream socket as the sink. */
import { POLLRDHUP } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { PollSet } from "../../../ffi/poll.ts";
import {
  bytesUnsent,
  isUnix,
  resetOnClose,
  shutdownWrite,
  socketError,
} from "../../../ffi/socket.ts";
import { EndpointError, endpointCall } from "../error.ts";
import { setSharedNonBlocking } from "../shared-descriptor.ts";
import { RelayedSink } from "../sinks/relayed-sink.ts";

/**
 * Milliseconds for the reader on another host to close its side once it has seen the end: one that
 * closes before it has read everything says so by a reset. Readers that never close must not hang us.
 */
const LINGER = 5000;

/**
 * What has left the queue of a Unix socket has been read, or was dropped when the reader closed its end,
 * which is then an error of ours (ECONNRESET). TCP's queue holds only what the other host's kernel has
 * not acknowledged: whether the reader takes it from there, we hear at the earliest when it closes.
 *
 * Until the stream is complete, the end of a TCP connection is a reset, even that of the process by
 * SIGKILL: a reader must not take the end of a truncated stream for that of a whole one.
 */
export class SocketSink extends RelayedSink {
  #giveBack = () => {};
  /** What has left the queue has been read. */
  #isExact = false;
  /** When our side was shut down, by performance.now(). */
  #shutDownAt: number | undefined;
  readonly #poll = new PollSet();

  override open(): boolean {
    super.open();
    endpointCall(() => {
      this.#isExact = isUnix(this.fd);
      this.#giveBack = setSharedNonBlocking(this.fd);
      if (!this.#isExact) resetOnClose(this.fd, true);
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
    // Of what was shut down, TCP counts the end itself as a byte.
    const unread = this.#shutDownAt === undefined ? endpointCall(() => bytesUnsent(this.fd)) : 0;
    // In this order: what is dropped leaves the queue after the error is there.
    this.#requireReader();
    return unread;
  }

  complete(): boolean {
    if (this.#shutDownAt === undefined) {
      endpointCall(() => shutdownWrite(this.fd));
      this.#shutDownAt = performance.now();
    }
    const ended = this.#isExact || this.#readerEnded();
    // In this order: a reset is an end, too.
    this.#requireReader();
    if (!ended && performance.now() < this.#shutDownAt + LINGER) return false;
    endpointCall(() => resetOnClose(this.fd, false));
    this.#giveBack();
    this.end();
    return true;
  }

  override close(): void {
    if (this.fd >= 0) this.#giveBack();
    super.close();
  }

  /** @throws EndpointError when the reader has closed its end with bytes unread */
  #requireReader(): void {
    const errno = endpointCall(() => socketError(this.fd));
    if (errno !== 0) throw new EndpointError(new SyscallError("send", errno));
  }

  /** True when the reader has closed its side, or its connection. What it has said stays unread. */
  #readerEnded(): boolean {
    this.#poll.clear();
    const at = this.#poll.add(this.fd, POLLRDHUP);
    this.#poll.wait(0);
    return (this.#poll.revents(at) & POLLRDHUP) !== 0;
  }
}
