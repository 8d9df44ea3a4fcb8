/** The common part of sinks that are no pipe: their data goes through a relay. */
import { writev } from "../../../ffi/fd.ts";
import type { IoVec } from "../../../ffi/memory.ts";
import { endpointCall } from "../error.ts";
import { OwnedDescriptor } from "../owned-descriptor.ts";
import { Relay } from "../relay.ts";
import type { Sink } from "./sink.ts";

export abstract class RelayedSink extends OwnedDescriptor implements Sink {
  #relay: Relay | undefined;

  get held(): number {
    return this.#relay?.held ?? 0;
  }

  /** Only while open. */
  protected get relay(): Relay {
    return this.#relay as Relay;
  }

  open(): boolean {
    this.opened(this.unopened);
    this.#relay = endpointCall(() => new Relay());
    return true;
  }

  splice(socket: number, length: number): number {
    return this.relay.fill(socket, length);
  }

  spliceFile(fd: number, length: number): number {
    return this.relay.fill(fd, length);
  }

  writev(vector: IoVec): number {
    return endpointCall(() => writev(this.fd, vector));
  }

  abstract zeroes(length: number): number;
  abstract flush(): boolean;
  abstract unread(): number;
  abstract complete(): boolean;

  override close(): void {
    super.close();
    this.#relay?.close();
    this.#relay = undefined;
  }
}
