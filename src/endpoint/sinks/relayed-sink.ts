/** What sinks share that take a descriptor and are no pipe: they get their data through a relay. */
import { close, closeWritten, writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { endpointCall } from "../error.ts";
import { Relay } from "../relay.ts";
import type { Sink } from "./sink.ts";

/** Owns the descriptor that it is given. */
export abstract class RelayedSink implements Sink {
  #fd = -1;
  #given: number;
  #relay: Relay | undefined;

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

  /** The relay; only while open. */
  protected get relay(): Relay {
    return this.#relay as Relay;
  }

  open(): boolean {
    this.#fd = this.#given;
    this.#given = -1;
    this.#relay = endpointCall(() => new Relay());
    return true;
  }

  splice(socket: number, length: number): number {
    return this.relay.fill(socket, length);
  }

  writev(vector: IoVec): number {
    return endpointCall(() => writev(this.#fd, vector));
  }

  abstract zeroes(length: number): number;
  abstract flush(): boolean;
  abstract unread(): number;
  abstract complete(): boolean;

  /** Ends what has been written. @throws EndpointError */
  protected end(): void {
    const fd = this.#fd;
    this.#fd = -1;
    endpointCall(() => closeWritten(fd));
  }

  close(): void {
    for (const fd of [this.#fd, this.#given]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#given = -1;
    this.#relay?.close();
    this.#relay = undefined;
  }
}
