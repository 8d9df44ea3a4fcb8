/** A connected stream socket as the sink. */
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { close, openFlags, setNonBlocking, writev } from "../../ffi/fd.ts";
import type { IoVec } from "../../ffi/memory.ts";
import { bytesUnsent, shutdownWrite } from "../../ffi/socket.ts";
import { guarded } from "./guarded.ts";
import { Relay } from "./relay.ts";
import type { Sink } from "./sink.ts";

/** Owns the descriptor that it is given. */
export class SocketSink implements Sink {
  #fd = -1;
  #relay: Relay | undefined;
  #given: number;
  #wasBlocking = false;

  constructor(
    readonly name: string,
    given: number,
  ) {
    this.#given = given;
  }

  get fd(): number {
    return this.#fd;
  }

  get held(): number {
    return this.#relay?.held ?? 0;
  }

  open(): boolean {
    // A socket cannot be opened a second time: the flag is set for all who share it, until close().
    this.#wasBlocking = (openFlags(this.#given) & O_NONBLOCK) === 0;
    if (this.#wasBlocking) setNonBlocking(this.#given, true);
    this.#fd = this.#given;
    this.#given = -1;
    this.#relay = new Relay();
    return true;
  }

  splice(socket: number, length: number): number {
    return (this.#relay as Relay).fill(socket, length);
  }

  writev(vector: IoVec): number {
    return guarded(() => writev(this.#fd, vector));
  }

  zeroes(length: number): number {
    return (this.#relay as Relay).fillZeroes(length);
  }

  flush(): boolean {
    return guarded(() => (this.#relay as Relay).drainTo(this.#fd));
  }

  unread(): number {
    return bytesUnsent(this.#fd);
  }

  complete(): void {
    guarded(() => shutdownWrite(this.#fd));
  }

  close(): void {
    if (this.#fd >= 0 && this.#wasBlocking) setNonBlocking(this.#fd, false);
    for (const fd of [this.#fd, this.#given]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#given = -1;
    this.#relay?.close();
    this.#relay = undefined;
  }
}
