/** The first bytes of a stream, by which the main thread knows what is no raw disk. */
import { Memory } from "../../../ffi/memory.ts";
import type { Offset } from "../../protocol/offset.ts";
import { START, type StreamEvent } from "../messages.ts";

/** Collects the first bytes as they go out, in pieces of any length, and posts them once. */
export class StreamStart {
  readonly #post: (event: StreamEvent) => void;
  readonly #memory = new Memory(START);
  #length = 0;
  /** True when all that is wanted has been posted, or the stream does not begin with data. */
  isKnown = false;

  constructor(post: (event: StreamEvent) => void) {
    this.#post = post;
  }

  /** Bytes that are still wanted. */
  get missing(): number {
    return this.isKnown ? 0 : START - this.#length;
  }

  /** Data of the stream at position `at`, in order; after a loss of clients the same may come again. */
  add(at: Offset, address: number, length: number): void {
    if (this.isKnown || at < this.#length) return;
    if (at > this.#length) {
      this.end();
      return;
    }
    const n = Math.min(length, this.missing);
    this.#memory.copyFromAddress(address, n, this.#length);
    this.#length += n;
    if (this.missing === 0) this.end();
  }

  /** Zeroes come next, or nothing more. */
  end(): void {
    if (this.isKnown) return;
    this.isKnown = true;
    if (this.#length === 0) return;
    this.#post({ type: "first-bytes", bytes: this.#memory.bytes.slice(0, this.#length) });
  }
}
