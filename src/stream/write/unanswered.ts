/** WRITEs of a connection whose payload is queued for the sink but not accepted yet. */
import type { Offset } from "../../protocol/offset.ts";
import type { RequestKey } from "../../protocol/reply.ts";

/** As many as fit into one queue: each takes at least one entry of the emitter's vector. */
const CAPACITY = 1024;

/**
 * A first-in, first-out list of requests, each with the queue position at which it is due. As a
 * {@link RequestKey} it stands for the first.
 */
export class Unanswered implements RequestKey {
  readonly #cookies = new Uint32Array(2 * CAPACITY);
  /** Grows to the longest list that there was. */
  readonly #offsets: Offset[] = [];
  readonly #due = new Float64Array(CAPACITY);
  #first = 0;
  #end = 0;

  get count(): number {
    return this.#end - this.#first;
  }

  /** True when no more fits before the list has been emptied. */
  get full(): boolean {
    return this.#end === CAPACITY;
  }

  /** @param due position in the emitter's queue where the payload ends */
  push({ cookieHigh, cookieLow, offset }: RequestKey, due: number): void {
    const at = this.#end++;
    this.#cookies[2 * at] = cookieHigh;
    this.#cookies[2 * at + 1] = cookieLow;
    this.#offsets[at] = offset;
    this.#due[at] = due;
  }

  /** Position at which the first of the list is due; Infinity when there is none. */
  get nextDue(): number {
    return this.#first < this.#end ? (this.#due[this.#first] as number) : Number.POSITIVE_INFINITY;
  }

  get cookieHigh(): number {
    return this.#cookies[2 * this.#first] as number;
  }

  get cookieLow(): number {
    return this.#cookies[2 * this.#first + 1] as number;
  }

  get offset(): Offset {
    return this.#offsets[this.#first] as Offset;
  }

  /** Drops the first. */
  shift(): void {
    this.#first++;
    if (this.#first === this.#end) {
      this.#first = 0;
      this.#end = 0;
    }
  }
}
