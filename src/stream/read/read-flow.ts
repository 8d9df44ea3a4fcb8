/** A stream that is read: from its source to its connections. */
import { POLLIN } from "../../../ffi/constants.ts";
import { EndpointError } from "../../endpoint/error.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { growSendBuffer } from "../../../ffi/socket.ts";
import type { Channel } from "../channel.ts";
import { type Failure, tooShort } from "../failure.ts";
import type { Flow, Side } from "../flow.ts";
import type { Ended, ShortStream } from "../messages.ts";
import { ReadSide } from "./read-side.ts";
import { ReadStream, type ReadStreamOptions } from "./read-stream.ts";

/**
 * Milliseconds for a writer that has given all that is wanted to close its end. One that has nothing
 * more to say may still hold it open, and be none the worse for it.
 */
const LINGER = 1000;

/**
 * What the kernel may hold for a client, in bytes: more than its default, so that the client has
 * something to do while the source's writer has its turn.
 */
const SEND_BUFFER = 1024 * 1024;

export class ReadFlow implements Flow {
  /** Replies to small READs are collected with their data. */
  readonly repliesCapacity = 256 * 1024;
  readonly #options: ReadStreamOptions;
  readonly #stream: ReadStream;
  /** Until when the end of the source is waited for, by performance.now(). */
  #deadline = 0;

  constructor(options: ReadStreamOptions) {
    this.#options = options;
    this.#stream = new ReadStream(options);
  }

  get failure(): Failure | undefined {
    return this.#stream.failure;
  }

  get isOpen(): boolean {
    return this.#options.source.fd >= 0;
  }

  get fd(): number {
    return this.#stream.intake.ended ? -1 : this.#options.source.fd;
  }

  get ready(): boolean {
    return this.#stream.intake.ready;
  }

  get clientsReturn(): boolean {
    return this.#options.reconnect;
  }

  get full(): boolean {
    const { head, size } = this.#stream.rule;
    return head >= size;
  }

  get mark(): string {
    return `${this.#stream.rule.head} ${this.#stream.intake.taken}`;
  }

  takePart(channel: Channel): Side {
    growSendBuffer(channel.fd, SEND_BUFFER);
    return new ReadSide(channel, this.#stream);
  }

  open(): boolean {
    this.#stream.intake.ready = this.#options.source.open();
    return this.#stream.intake.ready;
  }

  events(wanted: boolean): number {
    // A writer that has gone is reported at every poll(2): it has to wait until somebody reads.
    const awaited = wanted && !this.#stream.intake.ready;
    this.#options.counters.endpointAwaited = awaited;
    return awaited ? POLLIN : -1;
  }

  reported(revents: number): void {
    if (revents !== 0) this.#stream.intake.ready = true;
  }

  failed(error: EndpointError): void {
    this.#stream.failed(error);
  }

  endReconnect(): void {
    // A client that does not come back leaves nothing behind that is incomplete.
  }

  settled(problem: string | undefined): void {
    this.#stream.settled(problem);
  }

  beginFinish(short: ShortStream): void {
    const { head, size } = this.#stream.rule;
    if (short === "fail" && head < size) this.#stream.break(tooShort("read", head, size));
    this.#deadline = performance.now() + LINGER;
  }

  /** Sees whether the source has more than the stream, if all of that has been read. */
  finish(): boolean {
    const { post } = this.#options;
    if (this.#mayBeAtEnd && !this.#drain()) {
      if (this.#stream.needsEnd || performance.now() < this.#deadline) return false;
    }
    const { surplus } = this.#stream;
    if (surplus !== undefined) post({ type: "surplus", ...surplus });
    return true;
  }

  /** The clients have had all there is to have, as far as is known. */
  get #mayBeAtEnd(): boolean {
    const { rule } = this.#stream;
    const { endless, settles } = this.#options;
    if (!this.isOpen) return false;
    // Without a size, what a command has to say to its end counts if it comes right now.
    return endless ? settles : rule.head === rule.size;
  }

  #drain(): boolean {
    // With no end to be behind of, what is left is nobody's business; but how it ends is.
    if (this.#options.endless) return this.#stream.intake.available() !== WOULD_BLOCK;
    try {
      return this.#stream.drain();
    } catch (error) {
      // All of size= has been had: a peer that breaks the connection now does no harm.
      if (error instanceof EndpointError && !this.#options.exact) return true;
      throw error;
    }
  }

  get finishInterval(): number {
    if (this.#stream.intake.ready) return 0;
    return this.#stream.needsEnd ? Number.POSITIVE_INFINITY : this.#deadline - performance.now();
  }

  close(): Ended {
    const { intake, rule, digest } = this.#stream;
    intake.close();
    this.#options.source.close();
    return { windowNeeded: rule.needed, checksum: digest, sourceEnded: intake.ended };
  }
}
