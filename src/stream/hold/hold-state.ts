/** The state that all connections to a stream that is held back share. */
import type { EndpointError } from "../../endpoint/error.ts";
import type { Failure } from "../../messages/notice.ts";
import { NBD_ESHUTDOWN, NBD_OK } from "../../protocol/constants.ts";
import { max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { advertisedSize } from "../../protocol/export.ts";
import type { Request } from "../../protocol/request.ts";
import type { Counters } from "../counters.ts";
import { clientCut, describe, spoolFailed } from "../failure.ts";
import type { StreamEvent } from "../messages.ts";
import { type Mover, ReconnectTracker } from "../reconnect.ts";
import { Runs } from "../runs.ts";
import type { SpoolFile } from "../spool-file.ts";

/** The handler of a connection that may change the disk. */
export interface Changer extends Mover {
  /**
   * What connections that began later have changed, even by requests that are not complete yet. An older
   * connection that wants to change it too repeats what its client has sent on a later one, where newer data
   * may have followed.
   */
  readonly overtaken: Runs;
}

export interface HoldStateOptions {
  /** Has the disk; the stream closes it. */
  readonly spool: SpoolFile;
  /** The disk's length in bytes. */
  readonly size: Offset;
  /** Clients whose connection is lost may come back. */
  readonly reconnect: boolean;
  readonly post: (event: StreamEvent) => void;
}

export abstract class HoldState {
  /** Set once the stream is broken. */
  failure: Failure | undefined;
  readonly spool: SpoolFile;
  readonly size: Offset;
  /** The size of the disk in bytes: whole sectors. */
  readonly advertised: Offset;
  /** Where the last WRITE or WRITE_ZEROES ends. */
  end: Offset = 0;
  /** Where the data in the spool ends. */
  dataEnd: Offset = 0;
  /** How often the disk has changed. */
  moves = 0;
  /** Where the stream ends; undefined while clients may write. */
  protected until: Offset | undefined;
  readonly post: (event: StreamEvent) => void;
  /** Undefined where clients may not come back. */
  readonly reconnects: ReconnectTracker | undefined;
  /** Open connections; only where clients may come back. */
  readonly #changers = new Set<Changer>();
  /** What requests that were cut off would have changed, and no client has sent since. */
  readonly #missing = new Runs();
  /** The first of these requests, as the failure that it is if something stays missing. */
  #cutOff: Failure | undefined;

  constructor({ spool, size, reconnect, post }: HoldStateOptions) {
    this.spool = spool;
    this.size = size;
    this.advertised = advertisedSize(size);
    this.post = post;
    if (reconnect) this.reconnects = new ReconnectTracker(post);
  }

  /** The `NBD_E*` for all requests once the stream is broken, or goes out; NBD_OK before. */
  get refusal(): number {
    return this.failure?.errno ?? (this.until === undefined ? NBD_OK : NBD_ESHUTDOWN);
  }

  /** Breaks the stream. Only the first reason counts. */
  break(failure: Failure): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.post({ type: "broken", failure });
  }

  /** The sink, or the spool, has failed. */
  abstract endpointFailed(error: EndpointError): void;

  protected spoolFailed(error: EndpointError, counters: Counters): void {
    this.break(spoolFailed(this.spool, error, counters));
  }

  /** A WRITE or WRITE_ZEROES is refused: the stream lacks its data. */
  refuse(request: Request, error: number): void {
    this.post({ type: "refused", request: describe(request), error });
  }

  connected(by: Changer): void {
    if (this.reconnects !== undefined) this.#changers.add(by);
  }

  /**
   * Ends an older connection whose client has come back and has sent something for [start, end) since.
   *
   * @returns true if so
   */
  isOvertaken(by: Changer, start: Offset, end: Offset): boolean {
    if (start >= end || !by.overtaken.overlaps(start, end)) return false;
    this.reconnects?.replace(by);
    return true;
  }

  /** A request begins to change the disk. */
  moved(by: Changer): void {
    this.moves++;
    this.reconnects?.moved(by);
  }

  /** A request has changed [start, end), which may be only a part of what it changes. */
  changed(by: Changer, start: Offset, end: Offset): void {
    for (const other of this.#changers) {
      if (other.channel.id < by.channel.id) other.overtaken.add(start, end);
    }
  }

  /** A WRITE, WRITE_ZEROES or TRIM for [start, end) is complete. */
  completed(start: Offset, end: Offset): void {
    this.moves++;
    this.#missing.remove(start, end);
  }

  /**
   * A connection is gone in the middle of a WRITE or WRITE_ZEROES for [start, end), which may be changed in part.
   *
   * @param missing bytes of its payload that have not arrived
   */
  cut(by: Changer, request: Request, missing: number, start: Offset, end: Offset): void {
    const failure = clientCut(request, missing, 0);
    if (this.reconnects === undefined) {
      this.break(failure);
      return;
    }
    const lacking = new Runs();
    lacking.add(start, end);
    by.overtaken.each(start, end, (from, to) => lacking.remove(from, to));
    lacking.each(start, end, (from, to) => this.#missing.add(from, to));
    this.#cutOff ??= failure;
  }

  endReconnect(): void {
    if (!this.#missing.isEmpty) this.break(this.#cutOff as Failure);
  }

  closed(by: Changer): void {
    this.#changers.delete(by);
    this.reconnects?.closed(by);
  }

  /** A WRITE or WRITE_ZEROES up to a position is complete. */
  lengthen(end: Offset): void {
    this.end = max(this.end, min(end, this.size));
  }

  /** How many of `length` bytes are in the stream, whose last sector may be advertised as longer. */
  inside(at: Offset, length: Offset): Offset {
    return at < this.size ? min(length, subtract(this.size, at)) : 0;
  }
}
