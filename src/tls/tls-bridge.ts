/** Passes bytes between a TLS client and the stream thread, which knows plain connections only. */
import type { Socket } from "bun";
import { bytesReadable } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { growSendBuffer, recv } from "../../ffi/socket.ts";
import type { TlsClose } from "./tls-close.ts";

/**
 * Milliseconds without progress after which a client loses the rest, once the stream thread has closed the
 * connection. For a plain connection the kernel has such a limit.
 */
const LINGER = 3000;

/**
 * Bytes that the socket pair may hold for the stream thread: all that Bun decrypts at a time (512 KiB), and
 * the next while that is on its way to the sink.
 */
const SEND_BUFFER = 1024 * 1024;

/** Bytes that are received at a time without Bun: as many as it encrypts for one send(2). */
const PIECE = 128 * 1024;

/** The most pieces in a row before other connections, and signals, get their turn. */
const PIECES_PER_TURN = 16;

/** One direction, with the bytes that the receiving socket has not taken yet. */
class Forwarder {
  from: Socket<any> | undefined;
  to: Socket<any> | undefined;
  #queue: Uint8Array[] = [];
  #ended = false;

  /** @param onEnd called when the input has ended and all is passed on */
  constructor(readonly onEnd: (to: Socket<any>) => void) {}

  /**
   * Passes a chunk on. What has to wait is not copied: Bun gives each chunk memory of its own.
   *
   * @returns false if something waits now, and the chunk's memory must not change
   */
  push(chunk: Uint8Array): boolean {
    const sent = this.#queue.length > 0 ? 0 : this.#write(chunk);
    if (sent === chunk.length) return true;
    this.#queue.push(chunk.subarray(sent));
    this.from?.pause();
    return false;
  }

  /** Called when the receiving socket is open, or takes more. */
  drain(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const sent = this.#write(first);
      if (sent < first.length) {
        this.#queue[0] = first.subarray(sent);
        return;
      }
      this.#queue.shift();
    }
    if (this.#ended) this.#finish();
    else this.from?.resume();
  }

  /** Called when the input has ended. */
  end(): void {
    this.#ended = true;
    if (this.#queue.length === 0) this.#finish();
  }

  #finish(): void {
    if (this.to !== undefined) this.onEnd(this.to);
  }

  #write(bytes: Uint8Array): number {
    return Math.max(0, this.to?.write(bytes) ?? 0);
  }
}

/**
 * Passes bytes between a TLS socket and a plain one, with backpressure. The owner of the TLS socket
 * calls the methods for its events.
 */
export class TlsBridge {
  readonly #toStream = new Forwarder((plain) => {
    // A client that has only ended its side still takes replies.
    if (this.#over) plain.terminate();
    else plain.shutdown();
  });
  readonly #toClient = new Forwarder(() => this.#tlsClose.begin());
  readonly #tlsClose: TlsClose;
  /** What pieces are received into. Nothing of one waits any more when the next is received. */
  #piece: Memory | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;
  /** The connection is closed. */
  #over = false;

  /**
   * @param secure the TLS socket
   * @param tlsClose closes its connection
   * @param fd one end of a socket pair, which the bridge then owns
   */
  constructor(secure: Socket<any>, tlsClose: TlsClose, fd: number) {
    this.#tlsClose = tlsClose;
    growSendBuffer(fd, SEND_BUFFER);
    this.#toStream.from = secure;
    this.#toClient.to = secure;
    void Bun.connect({
      fd,
      socket: {
        open: (plain: Socket<any>) => {
          this.#toStream.to = plain;
          this.#toClient.from = plain;
          this.#toStream.drain();
        },
        data: (_: Socket<any>, chunk: Uint8Array) => {
          if (this.#toClient.push(chunk) && chunk.length >= PIECE) this.#passMore(fd);
        },
        drain: () => this.#toStream.drain(),
        end: () => this.#toClient.end(),
        close: () => this.#toClient.end(),
        error: () => this.#toClient.end(),
      },
      // Bun's types do not have this form.
    } as unknown as Parameters<typeof Bun.connect>[0]);
  }

  /**
   * Passes on what the socket pair has besides, where it has much: Bun would put each chunk into new memory.
   * Bun still takes the first chunk, and learns of the end.
   */
  #passMore(fd: number): void {
    const piece = (this.#piece ??= new Memory(PIECE));
    for (let i = 0; i < PIECES_PER_TURN && !this.#over; i++) {
      // Without data, recv(2) would take the error that Bun has to see.
      if (bytesReadable(fd) === 0) return;
      const n = recv(fd, piece.at(0), PIECE);
      if (!this.#toClient.push(piece.bytes.subarray(0, n))) return;
    }
  }

  /** Called with bytes from the client. */
  received(chunk: Uint8Array): void {
    this.#toStream.push(chunk);
  }

  /** Called when the client takes more. */
  drained(): void {
    if (this.#linger !== undefined) this.released();
    this.#toClient.drain();
  }

  /** Called when the client has ended its side; it may still take replies. */
  ended(): void {
    this.#toStream.end();
  }

  /** Called when the connection is closed. */
  closed(): void {
    this.#over = true;
    clearTimeout(this.#linger);
    this.#toStream.end();
  }

  /**
   * Called when the stream thread has closed the connection: the socket pair shows that only after all
   * of its data is read.
   */
  released(): void {
    if (this.#over) return;
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => this.#tlsClose.abort(), LINGER);
  }
}
