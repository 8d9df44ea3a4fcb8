/** A connected stream socket as the sink. */
import { O_NONBLOCK } from "../../../ffi/constants.ts";
import { openFlags, setNonBlocking } from "../../../ffi/fd.ts";
import { bytesUnsent, shutdownWrite } from "../../../ffi/socket.ts";
import { guarded } from "../guarded.ts";
import { RelayedSink } from "./relayed-sink.ts";

export class SocketSink extends RelayedSink {
  #wasBlocking = false;

  override open(): boolean {
    super.open();
    // A socket cannot be opened a second time: the flag is set for all who share it, until close().
    this.#wasBlocking = (openFlags(this.fd) & O_NONBLOCK) === 0;
    if (this.#wasBlocking) setNonBlocking(this.fd, true);
    return true;
  }

  zeroes(length: number): number {
    return this.relay.fillZeroes(length);
  }

  flush(): boolean {
    return guarded(() => this.relay.drainTo(this.fd));
  }

  unread(): number {
    return bytesUnsent(this.fd);
  }

  complete(): void {
    guarded(() => shutdownWrite(this.fd));
  }

  override close(): void {
    if (this.fd >= 0 && this.#wasBlocking) setNonBlocking(this.fd, false);
    super.close();
  }
}
