/**
 * The sequential rule: what a client's request means for a stream that only goes forward.
 *
 * Pure arithmetic over three positions: nothing is read, written or waited for here.
 */
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../protocol/constants.ts";
import { advertisedSize } from "../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../protocol/offset.ts";

/** A WRITE that the rule admits, in the order in which it reaches the stream. */
export interface WritePlan {
  /** Zeroes to emit before the payload: the gap that the client left. */
  gap: Offset;
  /** Bytes of the payload to emit. */
  emit: number;
  /**
   * Bytes at the payload's end that lie between the stream's end and the advertised size, which is
   * rounded up to whole sectors. They are not emitted, and must be zeroes.
   */
  tail: number;
}

/** The state of a stream that is written. */
export class SequentialRule {
  /** Bytes promised to the sink so far: where the next byte in sequence belongs. */
  head: Offset = 0;
  /** Where zeroes that a client asked for end, not emitted yet; never below `head`. */
  pending: Offset = 0;
  /** What {@link planWrite} found; one object, filled anew. */
  readonly plan: WritePlan = { gap: 0, emit: 0, tail: 0 };
  readonly #advertised: Offset;

  /** @param size the stream's length in bytes */
  constructor(readonly size: Offset) {
    this.#advertised = advertisedSize(size);
  }

  /**
   * Judges a WRITE and fills `plan`, without changing the state.
   *
   * @returns NBD_OK; NBD_ENOSPC past the end; NBD_EIO below the head
   */
  planWrite(offset: Offset, length: number): number {
    const end = add(offset, length);
    if (end > this.#advertised) return NBD_ENOSPC;
    if (offset < this.head) return NBD_EIO;
    const plan = this.plan;
    plan.emit = end <= this.size ? length : Number(subtract(this.size, min(offset, this.size)));
    plan.tail = length - plan.emit;
    // A payload of which nothing is emitted needs no gap now: it only lengthens the zeroes.
    plan.gap = plan.emit > 0 ? subtract(offset, this.head) : 0;
    return NBD_OK;
  }

  /** Takes the WRITE that {@link planWrite} has just admitted into the stream. */
  claim(): void {
    this.head = add(add(this.head, this.plan.gap), this.plan.emit);
    this.pending = max(this.pending, this.plan.tail > 0 ? this.size : this.head);
  }

  /**
   * Takes a WRITE_ZEROES. It is lazy: the zeroes are only noted, and later data may still land
   * among them. @returns as {@link planWrite}
   */
  zero(offset: Offset, length: number): number {
    const end = add(offset, length);
    if (end > this.#advertised) return NBD_ENOSPC;
    if (offset < this.head) return NBD_EIO;
    this.pending = max(this.pending, min(end, this.size));
    return NBD_OK;
  }

  /**
   * Judges a READ: what the stream has not reached reads as zeroes.
   *
   * @returns NBD_OK; NBD_EINVAL past the end; NBD_EIO for what has gone by
   */
  read(offset: Offset, length: number): number {
    if (add(offset, length) > this.#advertised) return NBD_EINVAL;
    return offset < this.head ? NBD_EIO : NBD_OK;
  }

  /** Brings the head to `end` with zeroes. @returns how many have to be emitted */
  fill(end: Offset): Offset {
    if (end <= this.head) return 0;
    const zeroes = subtract(end, this.head);
    this.head = end;
    this.pending = max(this.pending, end);
    return zeroes;
  }
}
