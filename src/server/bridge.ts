/** Between a client that speaks TLS and the stream thread, which does not. */
import type { Socket } from "bun";

/** One direction: what has come from one socket and the other has not taken yet. */
class Lane {
  from: Socket<any> | undefined;
  to: Socket<any> | undefined;
  #waiting: Buffer[] = [];
  #ended = false;

  push(chunk: Uint8Array): void {
    const sent = this.#waiting.length > 0 ? 0 : this.#write(chunk);
    if (sent === chunk.length) return;
    // A copy: the buffer is Bun's, and used again.
    this.#waiting.push(Buffer.from(chunk.subarray(sent)));
    this.from?.pause();
  }

  /** The other socket is there, or takes more. */
  drain(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const sent = this.#write(first);
      if (sent < first.length) {
        this.#waiting[0] = first.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#ended) this.to?.end();
    else this.from?.resume();
  }

  /** Nothing more comes. */
  end(): void {
    this.#ended = true;
    if (this.#waiting.length === 0) this.to?.end();
  }

  #write(bytes: Uint8Array): number {
    return Math.max(0, this.to?.write(bytes) ?? 0);
  }
}

/**
 * Passes bytes between a TLS socket and a plain one, no faster than they are taken. The owner of the
 * TLS socket says what happens to it.
 */
export class Bridge {
  readonly #inward = new Lane();
  readonly #outward = new Lane();

  /**
   * @param secure the TLS socket
   * @param fd one end of a socket pair, which the bridge then owns
   */
  constructor(secure: Socket<any>, fd: number) {
    this.#inward.from = secure;
    this.#outward.to = secure;
    void Bun.connect({
      fd,
      socket: {
        open: (plain: Socket<any>) => {
          this.#inward.to = plain;
          this.#outward.from = plain;
          this.#inward.drain();
        },
        data: (_: Socket<any>, chunk: Uint8Array) => this.#outward.push(chunk),
        drain: () => this.#inward.drain(),
        end: () => this.#outward.end(),
        close: () => this.#outward.end(),
        error: () => this.#outward.end(),
      },
      // Bun's types do not know of this form.
    } as unknown as Parameters<typeof Bun.connect>[0]);
  }

  /** Bytes from the client. */
  received(chunk: Uint8Array): void {
    this.#inward.push(chunk);
  }

  /** The client takes more. */
  drained(): void {
    this.#outward.drain();
  }

  /** The client has gone, or sends no more. */
  ended(): void {
    this.#inward.end();
  }
}
