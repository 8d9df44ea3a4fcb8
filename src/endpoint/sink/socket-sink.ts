/** A connected stream socket as the sink. */
import { bytesUnsent, shutdownWrite } from "../../../ffi/socket.ts";
import { guarded } from "../guarded.ts";
import { borrowNonBlocking } from "../non-blocking.ts";
import { RelayedSink } from "./relayed-sink.ts";

export class SocketSink extends RelayedSink {
  #giveBack = () => {};

  override open(): boolean {
    super.open();
    this.#giveBack = borrowNonBlocking(this.fd);
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
    if (this.fd >= 0) this.#giveBack();
    super.close();
  }
}
