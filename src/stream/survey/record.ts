/** What clients do to a disk, and which windows would have had room for it. */
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../protocol/constants.ts";
import { advertisedSize } from "../../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import { describe } from "../failure.ts";
import type { BackwardRequest, Survey, Tally } from "../findings.ts";
import { Candidate } from "./candidate.ts";

/** The windows that are tried, in bytes: none, and the powers of two from 1 MiB to 4 GiB. */
const WINDOWS = [0, ...Array.from({ length: 13 }, (_, i) => 2 ** (20 + i))];

/** Backward requests that are remembered one by one. */
const MOST_PLACES = 8;

class Count implements Tally {
  requests = 0;
  bytes = 0;

  add(length: Offset): void {
    this.requests++;
    this.bytes += Number(length);
  }

  get tally(): Tally {
    return { requests: this.requests, bytes: this.bytes };
  }
}

/** Judges requests as a disk would that takes all of them, and remembers what they come to. */
export class Record {
  /** The size of the disk in bytes: whole sectors. */
  readonly advertised: Offset;
  /** How far the data has come. */
  front: Offset = 0;
  /** How far writes and zeroes have come. */
  end: Offset = 0;
  /** A WRITE has come before the one before it was answered. */
  concurrent = false;
  flushes = 0;
  readonly #size: Offset;
  readonly #candidates: readonly Candidate[];
  readonly #writes = new Count();
  readonly #zeroes = new Count();
  readonly #gaps = new Count();
  readonly #backward = new Count();
  readonly #reads = new Count();
  readonly #readsBack = new Count();
  readonly #places: BackwardRequest[] = [];
  #farthest: Offset = 0;

  /** @param size the stream's length in bytes */
  constructor(size: Offset) {
    this.#size = size;
    this.advertised = advertisedSize(size);
    this.#candidates = WINDOWS.map((window) => new Candidate(size, window));
  }

  /** READs of what has gone by. */
  get readsBack(): number {
    return this.#readsBack.requests;
  }

  /** A WRITE of at least one byte. @returns NBD_OK, or NBD_ENOSPC past the end */
  write(request: Request): number {
    const { offset, payload: length } = request;
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    this.#writes.add(length);
    if (offset > this.end) this.#gaps.add(subtract(offset, this.end));
    if (offset < this.front) this.#goesBack(request);
    for (const candidate of this.#candidates) candidate.write(offset, length);
    this.front = max(this.front, min(end, this.#size));
    this.end = max(this.end, this.front);
    return NBD_OK;
  }

  /** A WRITE_ZEROES of at least one byte. @returns as {@link write} */
  zero(request: Request): number {
    const { offset, length } = request;
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    this.#zeroes.add(length);
    for (const candidate of this.#candidates) candidate.zero(offset, length);
    // Zeroes for what the stream has as zeroes already are in order.
    if (offset < this.front && this.#candidates[0]?.alive !== true) this.#goesBack(request);
    this.end = max(this.end, min(end, this.#size));
    return NBD_OK;
  }

  /** A READ. @returns NBD_OK for zeroes; NBD_EIO for what has gone by; NBD_EINVAL past the end */
  read({ offset, length }: Request): number {
    if (add(offset, length) > this.advertised) return NBD_EINVAL;
    this.#reads.add(length);
    if (offset >= this.front) return NBD_OK;
    this.#readsBack.add(length);
    return NBD_EIO;
  }

  /** All there is to tell. */
  get survey(): Survey {
    const fit = this.#candidates.find((candidate) => candidate.alive);
    return {
      writes: this.#writes.tally,
      zeroes: this.#zeroes.tally,
      gaps: this.#gaps.tally,
      backward: this.#backward.tally,
      places: this.#places,
      farthest: this.#farthest,
      reads: this.#reads.tally,
      readsBack: this.#readsBack.tally,
      flushes: this.flushes,
      concurrent: this.concurrent,
      end: this.end,
      window: fit && { size: fit.window, needed: fit.needed },
    };
  }

  #goesBack(request: Request): void {
    const { offset, length } = request;
    const head = this.front;
    this.#backward.add(length);
    this.#farthest = max(this.#farthest, subtract(head, offset));
    if (this.#places.length === MOST_PLACES) return;
    this.#places.push({ request: describe(request), offset, length, head });
  }
}
