/** Between a client that speaks TLS and the stream thread, which does not. */
import type { Socket } from "bun";
import type { TlsClose } from "../tls/tls-close.ts";

/**
 * Milliseconds for a client to take what was said last, or more of it, once the stream thread has
 * let go of it. A plain connection is then the kernel's alone, but here it is still ours.
 */
const LINGER = 3000;

/** One direction: what has come from one socket and the other has not taken yet. */
class Forwarder {
  from: Socket<any> | undefined;
  to: Socket<any> | undefined;
  #waiting: Buffer[] = [];
  #ended = false;

  /** @param whenOver what is to be done when all has been passed on and nothing more comes */
  constructor(readonly whenOver: (to: Socket<any>) => void) {}

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
    if (this.#ended) this.#finish();
    else this.from?.resume();
  }

  /** Nothing more comes. */
  end(): void {
    this.#ended = true;
    if (this.#waiting.length === 0) this.#finish();
  }

  #finish(): void {
    if (this.to !== undefined) this.whenOver(this.to);
  }

  #write(bytes: Uint8Array): number {
    return Math.max(0, this.to?.write(bytes) ?? 0);
  }
}

/**
 * Passes bytes between a TLS socket and a plain one, no faster than they are taken. The owner of the
 * TLS socket tells what happens to it.
 */
export class TlsBridge {
  /** A client that has only ended its side still takes answers: the stream thread has to know. */
  readonly #inward = new Forwarder((plain) => {
    if (this.#over) plain.terminate();
    else plain.shutdown();
  });
  readonly #output = new Forwarder(() => this.#end.begin());
  readonly #end: TlsClose;
  #linger: ReturnType<typeof setTimeout> | undefined;
  /** The connection is no more. */
  #over = false;

  /**
   * @param secure the TLS socket
   * @param end the end of its connection
   * @param fd one end of a socket pair, which the bridge then owns
   */
  constructor(secure: Socket<any>, end: TlsClose, fd: number) {
    this.#end = end;
    this.#inward.from = secure;
    this.#output.to = secure;
    void Bun.connect({
      fd,
      socket: {
        open: (plain: Socket<any>) => {
          this.#inward.to = plain;
          this.#output.from = plain;
          this.#inward.drain();
        },
        data: (_: Socket<any>, chunk: Uint8Array) => this.#output.push(chunk),
        drain: () => this.#inward.drain(),
        end: () => this.#output.end(),
        close: () => this.#output.end(),
        error: () => this.#output.end(),
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
    if (this.#linger !== undefined) this.released();
    this.#output.drain();
  }

  /** The client says nothing more, but may still listen. */
  ended(): void {
    this.#inward.end();
  }

  /** The connection is gone. */
  closed(): void {
    this.#over = true;
    clearTimeout(this.#linger);
    this.#inward.end();
  }

  /** The stream thread has let go of the connection, which does not show behind what it has said. */
  released(): void {
    if (!this.#over) this.#expectProgress();
  }

  #expectProgress(): void {
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => this.#end.abort(), LINGER);
  }
}
