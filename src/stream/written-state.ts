/** What the state of every stream that is written has: why it is broken, and what lost clients still have to send. */
import type { Failure } from "../messages/notice.ts";
import type { Offset } from "../protocol/offset.ts";
import type { StreamEvent } from "./messages.ts";
import { ReconnectTracker } from "./reconnect.ts";
import { Runs } from "./runs.ts";

export abstract class WrittenState {
  /** Set once the stream is broken. */
  failure: Failure | undefined;
  /** Undefined where clients may not come back. */
  readonly reconnects: ReconnectTracker | undefined;
  /** What requests that were cut off would have brought, and no client has sent since. */
  readonly #missing = new Runs();
  /** The first of these requests, as the failure that it is if something stays missing. */
  #cutOff: Failure | undefined;

  /** @param reconnect clients whose connection is lost may come back */
  constructor(
    readonly post: (event: StreamEvent) => void,
    reconnect: boolean,
  ) {
    if (reconnect) this.reconnects = new ReconnectTracker(post);
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
