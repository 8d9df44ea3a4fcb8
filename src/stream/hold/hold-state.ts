/** The state that all connections to a stream that is held back share. */
import type { EndpointError } from "../../endpoint/error.ts";
import { NBD_ESHUTDOWN, NBD_OK } from "../../protocol/constants.ts";
import { max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { advertisedSize } from "../../protocol/export.ts";
import type { Request } from "../../protocol/request.ts";
import type { Counters } from "../counters.ts";
import { clientCut, describe, spoolFailed } from "../failure.ts";
import type { Mover } from "../reconnect.ts";
import { Runs } from "../runs.ts";
import type { SpoolFile } from "../spool-file.ts";
import { WrittenState, type WrittenOptions } from "../written-state.ts";

/** The handler of a connection that may change the disk. */
export interface Changer extends Mover {
  /**
   * What connections that began later have changed, even by requests that are not complete yet. An older
   * connection that wants to change it too repeats what its client has sent on a later one, where newer data
   * may have followed.
   */
  readonly overtaken: Runs;
}

export interface HoldStateOptions extends WrittenOptions {
  /** Has the disk; the stream closes it. */
  readonly spool: SpoolFile;
  /** The disk's length in bytes. */
  readonly size: Offset;
}

export abstract class HoldState extends WrittenState {
  readonly spool: SpoolFile;
  readonly size: Offset;
  /** The size of the disk in bytes: whole sectors. */
  readonly advertised: Offset;
  /** Where the last WRITE or WRITE_ZEROES ends. */
  #changedEnd: Offset = 0;
  /** Where the data that clients have written into the spool ends. */
  dataEnd: Offset = 0;
  /** How often the disk has changed. */
  moves = 0;
  /** Where the stream ends; undefined while clients may write. */
  protected until: Offset | undefined;
  /** Open connections; only where clients may come back. */
  readonly #changers = new Set<Changer>();

  constructor({ spool, size, ...options }: HoldStateOptions) {
    super(options);
    this.spool = spool;
    this.size = size;
    this.advertised = advertisedSize(size);
  }

  /**
   * Where the stream ends if no more comes: behind what clients have asked for, and at the end of the file if a
   * program that has its path has made it longer than they have.
   */
  get end(): Offset {
    const { length } = this.spool;
    return length > this.dataEnd ? max(this.#changedEnd, length) : this.#changedEnd;
  }

  /** The `NBD_E*` for all requests once the stream is broken, or goes out; NBD_OK before. */
  get refusal(): number {
    return this.failure?.errno ?? (this.until === undefined ? NBD_OK : NBD_ESHUTDOWN);
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
    this.got(start, end);
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
    lacking.each(start, end, (from, to) => this.lack(from, to, failure));
  }

  closed(by: Changer): void {
    this.#changers.delete(by);
    this.reconnects?.closed(by);
  }

  /** A WRITE or WRITE_ZEROES up to a position is complete. */
  lengthen(end: Offset): void {
    this.#changedEnd = max(this.#changedEnd, min(end, this.size));
  }

  /** How many of `length` bytes are in the stream, whose last sector may be advertised as longer. */
  inside(at: Offset, length: Offset): Offset {
    return at < this.size ? min(length, subtract(this.size, at)) : 0;
  }
}
