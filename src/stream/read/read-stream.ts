/** A stream that is read: opens, polls, completes and closes its source. */
import { POLLIN } from "../../../ffi/constants.ts";
import { EndpointError } from "../../endpoint/error.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { growSendBuffer } from "../../../ffi/socket.ts";
import type { Channel } from "../channel.ts";
import { tooShort } from "../failure.ts";
import type { Ended, ShortStream } from "../messages.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { ReadHandler } from "./read-handler.ts";
import { ReadState } from "./read-state.ts";

/** Milliseconds for a writer to close its end after the last byte. One that keeps it open does no harm. */
const LINGER = 1000;

/**
 * Bytes that the kernel may hold for a client: more than its default, so that the client can work while the
 * source's writer runs.
 */
const SEND_BUFFER = 1024 * 1024;

export class ReadStream extends ReadState implements Stream {
  /** Replies to small READs are collected with their data. */
  readonly repliesCapacity = 256 * 1024;
  /** Until when the end of the source is waited for, by performance.now(). */
  #deadline = 0;

  get isOpen(): boolean {
    return this.options.source.fd >= 0;
  }

  get fd(): number {
    return this.intake.ended ? -1 : this.options.source.fd;
  }

  get ready(): boolean {
    return this.intake.ready;
  }

  get clientsReturn(): boolean {
    return this.options.reconnect;
  }

  get full(): boolean {
    const { head, size } = this.rule;
    return head >= size;
  }

  get position(): string {
    return `${this.rule.head} ${this.intake.taken}`;
  }

  createHandler(channel: Channel): RequestHandler {
    growSendBuffer(channel.fd, SEND_BUFFER);
    return new ReadHandler(channel, this);
  }

  open(): boolean {
    this.intake.ready = this.options.source.open();
    return this.intake.ready;
  }

  events(wanted: boolean): number {
    // poll(2) always reports a writer that is gone, so the source is polled only when a client waits.
    const awaited = wanted && !this.intake.ready;
    this.options.counters.endpointAwaited = awaited;
    return awaited ? POLLIN : -1;
  }

  reported(revents: number): void {
    if (revents !== 0) this.intake.ready = true;
  }

  endReconnect(): void {
    // A client that does not come back leaves no gap in the stream.
  }

  finish(short: ShortStream): void {
    const { head, size } = this.rule;
    if (short === "fail" && head < size) this.break(tooShort("read", head, size));
    this.#deadline = performance.now() + LINGER;
  }

  /** Finds out whether the source is longer than the stream, if that has been read completely. */
  complete(): boolean {
    const { post } = this.options;
    if (this.#endIsWanted && !this.#isAtEnd()) {
      if (this.needsEnd || performance.now() < this.#deadline) return false;
    }
    const { surplus } = this;
    if (surplus !== undefined) post({ type: "surplus", ...surplus });
    return true;
  }

  /** True when the clients have read the whole stream, as far as is known. */
  get #endIsWanted(): boolean {
    const { rule } = this;
    const { endless, awaitsExit } = this.options;
    if (!this.isOpen) return false;
    // Without a size, the exit status of a command counts if it is known at this moment.
    return endless ? awaitsExit : rule.head === rule.size;
  }

  #isAtEnd(): boolean {
    // Without a size there is no surplus; only how the source ends matters.
    if (this.options.endless) return this.intake.available() !== WOULD_BLOCK;
    try {
      return this.readSurplus();
    } catch (error) {
      // The whole stream has been read, so a peer that breaks the connection now does no harm.
      if (error instanceof EndpointError && !this.options.exact) return true;
      throw error;
    }
  }

  get completeInterval(): number {
    if (this.intake.ready) return 0;
    return this.needsEnd ? Number.POSITIVE_INFINITY : this.#deadline - performance.now();
  }

  close(): Ended {
    const { intake, rule } = this;
    intake.close();
    this.options.source.close();
    return {
      windowNeeded: rule.needed,
      checksum: this.options.digest?.hex(),
      sourceEnded: intake.ended,
    };
  }
}
