/** The sink's side of a stream: opens, polls, completes and closes the sink, and notices its loss. */
import { POLLERR, POLLHUP, POLLOUT } from "../../../ffi/constants.ts";
import { EndpointError } from "../../endpoint/error.ts";
import type { Sink } from "../../endpoint/sinks/sink.ts";
import type { Failure } from "../../messages/notice.ts";
import type { Counters } from "../counters.ts";
import { readerGone, sinkFailed, spoolFailed } from "../failure.ts";
import { SpoolError, type SpoolFile } from "../spool-file.ts";
import { Emitter } from "./emitter.ts";

/**
 * Milliseconds between two checks of the unread bytes, at most: poll(2) does not report that a pipe is empty.
 * The first checks come sooner.
 */
const DRAIN_INTERVAL = 5;

/**
 * The most bytes, and things that are queued one by one, between two looks at signals and clients: a file
 * takes everything at once.
 */
const BYTES_PER_TURN = 64 * 1024 * 1024;
const RUNS_PER_TURN = 256;

/** A sink with its queue. */
export class Outlet {
  readonly emitter: Emitter;
  readonly #sink: Sink;
  readonly #spool: SpoolFile | undefined;
  readonly #onLoss: (failure: Failure) => void;
  /** The reader had taken everything when {@link complete} was called last. */
  isTaken = false;
  /** The reader has taken everything and left. */
  #readerDone = false;
  #drainInterval = 1;
  /** {@link emitAll} goes on at once. */
  #interrupted = false;

  /**
   * @param spool where data for the sink may come from
   * @param onLoss called when the sink, or the spool, is of no use any more
   */
  constructor(
    sink: Sink,
    counters: Counters,
    spool: SpoolFile | undefined,
    onLoss: (failure: Failure) => void,
  ) {
    this.#sink = sink;
    this.#spool = spool;
    this.#onLoss = onLoss;
    this.emitter = new Emitter(sink, counters);
  }

  get isOpen(): boolean {
    return this.#sink.fd >= 0;
  }

  /** To poll; -1 when there is nothing to poll. */
  get fd(): number {
    return this.#readerDone ? -1 : this.#sink.fd;
  }

  open(): boolean {
    this.emitter.ready = this.#sink.open();
    return this.emitter.ready;
  }

  /** The events to poll for. @param wanted something waits for the sink */
  events(wanted: boolean): number {
    const awaited = !this.emitter.ready && (wanted || !this.emitter.idle);
    this.emitter.counters.endpointAwaited = awaited;
    return awaited ? POLLOUT : 0;
  }

  /** Takes `revents`. @param isLast nothing more comes: a reader that has taken everything may leave */
  reported(revents: number, isLast: boolean): void {
    // A pipe without a reader is POLLERR, a socket whose peer has closed POLLHUP.
    if ((revents & (POLLERR | POLLHUP)) !== 0) {
      try {
        this.#readerLeft(this.#sink.unread(), isLast);
      } catch (error) {
        if (!(error instanceof EndpointError)) throw error;
        this.failed(error);
      }
    } else if ((revents & POLLOUT) !== 0) {
      this.emitter.ready = true;
    }
  }

  #readerLeft(unread: number, isLast: boolean): void {
    this.#readerDone = isLast && this.emitter.idle && unread === 0;
    if (this.#readerDone) return;
    this.#lose(readerGone(this.#sink.name, this.emitter.counters.emitted, unread));
  }

  /** A call on the sink, or on the spool, has failed: drops what is queued. */
  failed(error: EndpointError): void {
    const { counters } = this.emitter;
    this.#lose(
      error instanceof SpoolError
        ? spoolFailed(this.#spool as SpoolFile, error, counters)
        : sinkFailed(this.#sink.name, error, counters.emitted),
    );
  }

  #lose(failure: Failure): void {
    this.#onLoss(failure);
    this.emitter.clear();
    this.#sink.close();
  }

  /**
   * Emits what is queued, and then what `queueNext` queues, again and again.
   *
   * @param queueNext returns false when there is nothing more
   * @returns true then; false when the sink would block, or others have their turn first
   * @throws EndpointError
   */
  emitAll(queueNext: () => boolean): boolean {
    const { emitter } = this;
    const limit = emitter.counters.emitted + BYTES_PER_TURN;
    this.#interrupted = false;
    for (let runs = RUNS_PER_TURN; emitter.flush(); runs--) {
      this.#interrupted = runs === 0 || emitter.counters.emitted >= limit;
      if (this.#interrupted) return false;
      if (!queueNext()) return true;
    }
    return false;
  }

  /**
   * Waits until the reader has taken everything that was queued, and closes the sink.
   *
   * @param mayEnd false while the reader must not see the end
   * @returns true when that is done
   * @throws EndpointError of the sink, and of the spool if not all that came from it was what had been put there
   */
  complete(mayEnd = true): boolean {
    this.#spool?.check();
    this.isTaken = this.#sink.unread() === 0;
    if (this.isTaken && mayEnd && this.#sink.complete()) return true;
    this.#drainInterval = Math.min(2 * this.#drainInterval, DRAIN_INTERVAL);
    return false;
  }

  /** Milliseconds after which {@link emitAll} or {@link complete} has to be called again. */
  get completeInterval(): number {
    if (this.#interrupted) return 0;
    if (this.emitter.idle) return this.#drainInterval;
    return this.emitter.ready ? 0 : Number.POSITIVE_INFINITY;
  }

  /** @returns the checksum in hex, if the sink has one */
  close(): string | undefined {
    const checksum = this.#sink.digest?.();
    this.#sink.close();
    return checksum;
  }
}
