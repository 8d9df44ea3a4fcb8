/** The common part of sinks that are no pipe: data reaches them through a relay. */
import { close, closeWritten, writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { endpointCall } from "../error.ts";
import { Relay } from "../relay.ts";
import type { Sink } from "./sink.ts";

/** Owns the descriptor that it is created with. */
export abstract class RelayedSink implements Sink {
  #fd = -1;
  /** The descriptor until {@link open}; -1 afterwards. */
  #unopened: number;
  #relay: Relay | undefined;

  constructor(
    readonly name: string,
    fd: number,
  ) {
    this.#unopened = fd;
  }

  get fd(): number {
    return this.#fd;
  }

  get held(): number {
    return this.#relay?.held ?? 0;
  }

  /** Only while open. */
  protected get relay(): Relay {
    return this.#relay as Relay;
  }

  open(): boolean {
    this.#fd = this.#unopened;
    this.#unopened = -1;
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

  /** Closes the sink at the end of a complete stream. @throws EndpointError when data may be lost */
  protected end(): void {
    const fd = this.#fd;
    this.#fd = -1;
    endpointCall(() => closeWritten(fd));
  }

  close(): void {
    for (const fd of [this.#fd, this.#unopened]) if (fd >= 0) close(fd);
    this.#fd = -1;
    this.#unopened = -1;
    this.#relay?.close();
    this.#relay = undefined;
  }
}
