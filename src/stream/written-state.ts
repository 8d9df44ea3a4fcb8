/** What the state of every stream that is written has: why it is broken, and what lost clients still have to send. */
import type { Failure } from "../messages/notice.ts";
import type { Offset } from "../protocol/offset.ts";
import type { StreamEvent } from "./messages.ts";
import { ReconnectTracker } from "./reconnect.ts";
import { Runs } from "./runs.ts";

/**
 * The end of zeroes, in bytes, that do not count as data of a client: qemu-img without `-n` first "creates" the
 * disk on a connection of its own, and zeroes one sector there.
 */
export const CREATION_PROBE = 512;

export interface WrittenOptions {
  /** Clients whose connection is lost may come back. */
  readonly reconnect: boolean;
  /** There is only one connection, ever: what it does is all that is done. Default: false. */
  readonly single?: boolean;
  readonly post: (event: StreamEvent) => void;
}

export abstract class WrittenState {
  readonly post: (event: StreamEvent) => void;
  /** Set once the stream is broken. */
  failure: Failure | undefined;
  /** Undefined where clients may not come back. */
  readonly reconnects: ReconnectTracker | undefined;
  /** What requests that were cut off would have brought, and no client has sent since. */
  readonly #missing = new Runs();
  /** The first of these requests, as the failure that it is if something stays missing. */
  #cutOff: Failure | undefined;
  readonly #single: boolean;

  constructor({ reconnect, single = false, post }: WrittenOptions) {
    this.post = post;
    this.#single = single;
    if (reconnect) this.reconnects = new ReconnectTracker(post);
  }

  /** True if zeroes up to a position that a client asks for are a part of what it writes. */
  countsZeroes(end: Offset): boolean {
    return this.#single || end > CREATION_PROBE;
  }

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.post({ type: "broken", failure });
  }

  /** A client that was cut off has still to send [start, end). @param failure what it is if that does not come */
  protected lack(start: Offset, end: Offset, failure: Failure): void {
    this.#missing.add(start, end);
    this.#cutOff ??= failure;
  }

  /** A client has sent [start, end). */
  protected got(start: Offset, end: Offset): void {
    this.#missing.remove(start, end);
  }

  /** True while a request was cut off and not repeated. */
  get isMissingData(): boolean {
    return !this.#missing.isEmpty;
  }

  endReconnect(): void {
    if (this.isMissingData) this.break(this.#cutOff as Failure);
  }
}
