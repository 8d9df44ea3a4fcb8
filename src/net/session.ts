/** One connection while it negotiates, on the main thread. */
import type { Socket, SocketHandler } from "bun";
import { socketpair } from "../../ffi/socket.ts";
import { messageOf } from "../errors.ts";
import { Negotiation } from "../handshake/negotiation.ts";
import type { NegotiationResult } from "../handshake/haggling.ts";
import type { Words } from "../messages/notice.ts";
import type { ExportInfo } from "../protocol/export.ts";
import type { NegotiatedConnection } from "../stream/channel.ts";
import { TlsBridge } from "../tls/tls-bridge.ts";
import type { Security } from "../tls/certificates.ts";
import { TlsClose } from "../tls/tls-close.ts";
import { dup } from "../../ffi/fd.ts";

/** What becomes of sessions. */
export interface SessionEvents {
  /**
   * Negotiation is done: the receiver owns the descriptor, and calls `released` when it has closed
   * it.
   */
  readonly onTransmission: (client: NegotiatedConnection, released: () => void) => void;
  /** The connection ended before. @param fault true when the client broke the protocol */
  readonly onClose: (reason: Words, fault: boolean) => void;
  /** The client has left before, without a word: NBD_OPT_ABORT, or anything that is refused. */
  readonly onAbandon: () => void;
}

export interface SessionOptions {
  readonly info: ExportInfo;
  readonly security: Security;
  /** Seconds that negotiation may take, TLS included. */
  readonly negotiationTimeout: number;
}

const LEFT = "the client left during negotiation";

type Transmission = NegotiationResult & { kind: "transmission" };

/** Feeds a socket's bytes to the {@link Negotiation} and its answers back, then lets go of it. */
export class Session {
  readonly #negotiation: Negotiation;
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #deadline: ReturnType<typeof setTimeout>;
  /** What bytes come and go by: the socket that was accepted, or TLS on top of it. */
  #socket: Socket<any>;
  /** What the socket would not take yet. */
  #unsent: Buffer[] = [];
  /** What came after negotiation. */
  #leftover: Buffer[] = [];
  #agreed: Transmission | undefined;
  /** Why negotiation is over without one. */
  #closing: Extract<NegotiationResult, { kind: "close" }> | undefined;
  #bridge: TlsBridge | undefined;
  /** How TLS ends; undefined until it has begun. */
  #tlsEnd: TlsClose | undefined;
  /** The client says nothing more. */
  #ended = false;
  #state: "negotiating" | "securing" | "leaving" | "closing" | "handed over" | "bridged" | "gone" =
    "negotiating";

  /** When the client came, or has said something last, by performance.now(). */
  heard = performance.now();

  /** @param number which of all sessions it is, counted from 1 */
  constructor(
    readonly socket: Socket<Session>,
    readonly number: number,
    options: SessionOptions,
    events: SessionEvents,
  ) {
    this.#socket = socket;
    this.#options = options;
    this.#events = events;
    this.#negotiation = new Negotiation(options.info, options.security.policy);
    this.#deadline = setTimeout(() => {
      this.#cut(`negotiation has taken more than ${options.negotiationTimeout} s`);
    }, options.negotiationTimeout * 1000);
  }

  /** True once the connection is the stream thread's, or over. */
  get left(): boolean {
    return ["handed over", "bridged", "gone"].includes(this.#state);
  }

  /** True while the connection, which is the stream thread's, passes through here. */
  get bridged(): boolean {
    return this.#state === "bridged";
  }

  /** Says the server's first words. */
  start(): void {
    this.#send([this.#negotiation.greeting()]);
  }

  /** Bytes from the client. @param from the socket that has them */
  data(from: Socket<any>, chunk: Uint8Array): void {
    if (!this.left) this.heard = performance.now();
    // Below TLS, the accepted socket goes on showing what passes through it.
    if (from !== this.#socket) return;
    if (this.#bridge !== undefined) this.#bridge.received(chunk);
    // Bun may deliver once more what it had read before it was told to pause.
    else if (this.#agreed !== undefined) this.#leftover.push(Buffer.from(chunk));
    else if (this.#state === "securing") this.#cut("data in the clear came before TLS");
    else if (this.#state === "negotiating") this.#negotiate(chunk);
  }

  #negotiate(chunk: Uint8Array): void {
    const { output, outcome } = this.#negotiation.push(chunk);
    this.#send(output);
    if (outcome === undefined || this.left) return;
    if (outcome.kind === "close") {
      this.#state = "closing";
      this.#closing = outcome;
      this.#goOnWhenSent();
    } else if (outcome.kind === "starttls") {
      this.#state = "securing";
      this.#goOnWhenSent();
    } else {
      this.#state = "leaving";
      this.#agreed = outcome;
      this.#leftover.push(Buffer.from(outcome.leftover));
      this.#socket.pause();
      this.#goOnWhenSent();
    }
  }

  /** The socket takes more. */
  drain(from: Socket<any>): void {
    if (from !== this.#socket) return;
    this.#bridge?.drained();
    const unsent = this.#unsent;
    this.#unsent = [];
    this.#send(unsent);
    this.#goOnWhenSent();
  }

  /** The client has closed its side. */
  #clientEnded(): void {
    this.#ended = true;
    if (this.#bridge !== undefined) this.#bridge.ended();
    else if (this.#state === "negotiating") this.#hangUp();
  }

  /** The connection is closed, or lost. */
  closed(): void {
    this.#tlsEnd?.closed();
    this.#bridge?.closed();
    if (this.#state === "bridged") this.#state = "gone";
    this.#left();
  }

  /** The connection is over. @param why if it is not for what negotiation has ended by */
  #left(why = LEFT): void {
    if (this.#closing === undefined && why === LEFT && !this.left) this.#events.onAbandon();
    const { reason, fault } = this.#closing ?? { reason: why, fault: false };
    this.#gone(reason, fault);
  }

  /** Ends a connection that is still negotiating. */
  terminate(): void {
    this.#left("the server has no time for it any more");
    this.#hangUp();
  }

  #send(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      const bytes = Buffer.from(part);
      const sent = this.#unsent.length > 0 ? 0 : this.#socket.write(bytes);
      if (sent < 0) {
        // There is nobody to tell. A socket that is paused, as it soon may be, would not notice.
        this.#left();
        this.socket.terminate();
        return;
      }
      if (sent < bytes.length) this.#unsent.push(bytes.subarray(sent));
    }
  }

  /** Whoever has the connection next must not say anything before what was said last is out. */
  #goOnWhenSent(): void {
    if (this.#unsent.length > 0) return;
    if (this.#state === "securing") this.#secure();
    else if (this.#state === "closing") this.#close();
    // Not at once: the callback that this is called from may be followed by another one with what
    // Bun had already read.
    else if (this.#state === "leaving") setImmediate(() => this.#leave());
  }

  #secure(): void {
    const { security } = this.#options;
    if (security.policy === "off") return;
    const socket: SocketHandler<undefined> = {
      data: (from, chunk) => this.data(from, chunk),
      drain: (from) => this.drain(from),
      end: () => this.#clientEnded(),
      close: () => this.closed(),
      error: () => {},
      handshake: (secure, done, error) => {
        // A certificate of another authority lets the handshake succeed all the same. Bun would end
        // the connection by itself then, but not tell why.
        if (done) this.#tlsEnd = new TlsClose(secure);
        const trusted = secure.authorized || security.options.rejectUnauthorized !== true;
        if (!done || !trusted) this.#cut(`TLS failed: ${error?.message ?? "no handshake"}`);
      },
    };
    const pair = this.socket.upgradeTLS({
      // Bun's types do not know that a server can do this, too.
      ...({ isServer: true } as object),
      data: undefined,
      tls: security.options,
      socket,
    });
    this.#socket = pair[1];
    this.#negotiation.secured();
    this.#state = "negotiating";
  }

  #leave(): void {
    const agreed = this.#agreed;
    if (this.#state !== "leaving" || agreed === undefined) return;
    clearTimeout(this.#deadline);
    try {
      if (this.#tlsEnd === undefined) this.#handOver(agreed);
      else this.#bridgeOver(agreed, this.#tlsEnd);
    } catch (error) {
      this.#state = "leaving";
      this.#cut(`cannot take over a connection: ${messageOf(error)}`);
    }
  }

  #handOver(agreed: Transmission): void {
    // First: Bun tells at once that the socket is closed.
    this.#state = "handed over";
    this.#transmit(takeDescriptor(this.socket), agreed);
  }

  #bridgeOver(agreed: Transmission, end: TlsClose): void {
    const [near, far] = socketpair();
    this.#bridge = new TlsBridge(this.#socket, end, near);
    if (this.#ended) this.#bridge.ended();
    this.#state = "bridged";
    this.#transmit(far, agreed);
  }

  #transmit(fd: number, { negotiated }: Transmission): void {
    const client = { fd, leftover: Buffer.concat(this.#leftover), negotiated };
    this.#events.onTransmission(client, () => this.#bridge?.released());
  }

  #cut(reason: string): void {
    const wasOver = this.left;
    this.#gone(reason, true);
    if (!wasOver) this.#hangUp();
  }

  /** Closes a connection with which negotiation is over, behind what the client has been told. */
  #close(): void {
    if (this.#tlsEnd !== undefined) {
      this.#tlsEnd.begin();
    } else {
      this.#left();
      this.#socket.end();
    }
  }

  /** Ends a connection without waiting for the client. */
  #hangUp(): void {
    if (this.#tlsEnd !== undefined) this.#tlsEnd.cut();
    else this.#socket.terminate();
  }

  #gone(reason: string, fault: boolean): void {
    clearTimeout(this.#deadline);
    if (this.left) return;
    this.#state = "gone";
    this.#events.onClose(reason, fault);
  }
}

/** Bun's sockets have this property, but its types do not tell. */
interface WithDescriptor {
  readonly fd: number;
}

/**
 * Takes the descriptor out of a paused socket and retires the socket.
 *
 * The copy is made first, so the close that follows ends nothing: the peer notices nothing, and
 * only the copy is left. Until then Bun owns the connection, afterwards the caller does.
 *
 * @returns a non-blocking descriptor for the connection
 * @throws SyscallError when no descriptor is to be had (EMFILE); the socket is as it was
 */
export function takeDescriptor<Data>(socket: Socket<Data>): number {
  const fd = dup((socket as unknown as WithDescriptor).fd);
  // Neither end() nor terminate(): the first may shut the connection down for both descriptors, the
  // second makes the kernel reset it when the copy is closed.
  (socket as unknown as { close(): void }).close();
  return fd;
}
