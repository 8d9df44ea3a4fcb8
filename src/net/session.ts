/** One connection while it negotiates, on the main thread. */
import type { Socket, SocketHandler } from "bun";
import { noticeDeadPeer, socketpair } from "../../ffi/socket.ts";
import { messageOf } from "../errors.ts";
import { Negotiation } from "../handshake/negotiation.ts";
import type { NegotiationResult } from "../handshake/haggling.ts";
import type { Words } from "../messages/notice.ts";
import type { ExportInfo, ExportTable } from "../protocol/export.ts";
import type { NegotiatedConnection } from "../stream/messages.ts";
import { TlsBridge } from "../tls/tls-bridge.ts";
import type { Security } from "../tls/certificates.ts";
import { TlsClose } from "../tls/tls-close.ts";
import { dup } from "../../ffi/fd.ts";

export interface SessionEvents {
  /** The transmission phase begins. The receiver owns `client.fd`, and calls `released` after closing it. */
  readonly onTransmission: (
    client: NegotiatedConnection,
    info: ExportInfo,
    released: () => void,
  ) => void;
  /** The connection ended during negotiation. @param fault true when the client broke the protocol */
  readonly onClose: (reason: Words, fault: boolean) => void;
  /**
   * The client disconnected during negotiation, without NBD_OPT_ABORT or an error; onClose follows.
   * `chosen` is undefined before its choice.
   */
  readonly onAbandon: (chosen: ExportInfo | undefined) => void;
}

export interface SessionSettings {
  readonly security: Security;
  /** Milliseconds that negotiation may take, TLS included. */
  readonly negotiationTimeout: number;
}

export interface SessionOptions extends SessionSettings {
  readonly exports: ExportTable;
  /**
   * Milliseconds in which the kernel has to notice the dead link of a client of an export; undefined is its
   * default.
   */
  readonly reconnectOf: (info: ExportInfo) => number | undefined;
}

/** Milliseconds of a timer before which the event loop has been at all that had come. */
const TURN = 1;

const LEFT = "the client left during negotiation";

type Transmission = NegotiationResult & { kind: "transmission" };

/** Passes bytes between a socket and the {@link Negotiation}, then hands the connection over. */
export class Session {
  readonly #negotiation: Negotiation;
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #handler: SocketHandler<Session>;
  #deadline: ReturnType<typeof setTimeout>;
  /** The accepted socket, or the TLS socket on top of it. */
  #socket: Socket<any>;
  /** Bytes that the socket has not taken yet. */
  #unsent: Buffer[] = [];
  /** Bytes that came after negotiation. */
  #leftover: Buffer[] = [];
  #agreed: Transmission | undefined;
  /** Why negotiation ended without an agreement. */
  #closing: Extract<NegotiationResult, { kind: "close" }> | undefined;
  #bridge: TlsBridge | undefined;
  /** Ends TLS; undefined until TLS has begun. */
  #tlsClose: TlsClose | undefined;
  /** The client has ended its side. */
  #ended = false;
  #state: "negotiating" | "securing" | "agreed" | "closing" | "handed over" | "bridged" | "closed" =
    "negotiating";

  /** When the client connected or sent data last, by performance.now(). */
  lastInput = performance.now();

  /**
   * @param number counts all sessions, from 1
   * @param handler the callbacks of accepted sockets
   */
  constructor(
    socket: Socket<Session>,
    readonly number: number,
    handler: SocketHandler<Session>,
    options: SessionOptions,
    events: SessionEvents,
  ) {
    this.#socket = socket;
    this.#handler = handler;
    this.#options = options;
    this.#events = events;
    this.#negotiation = new Negotiation(options.exports, options.security.policy);
    const cut = () => {
      this.#cut(`negotiation has taken more than ${options.negotiationTimeout / 1000} s`);
    };
    this.#deadline = setTimeout(() => {
      // What has come while the program was stopped, or had no processor, is there after another turn.
      this.#deadline = setTimeout(cut, TURN);
    }, options.negotiationTimeout);
  }

  /** True once the connection is the stream thread's, or closed. */
  get over(): boolean {
    return ["handed over", "bridged", "closed"].includes(this.#state);
  }

  /** The export that the client has chosen; undefined before its choice. */
  get chosen(): ExportInfo | undefined {
    return this.#agreed?.info;
  }

  /** True while a connection of the stream thread passes through the TLS socket here. */
  get bridged(): boolean {
    return this.#state === "bridged";
  }

  /** Sends the greeting. */
  start(): void {
    this.#send([this.#negotiation.greeting()]);
  }

  /** Called with bytes from the client. @param from the socket that has them */
  data(from: Socket<any>, chunk: Uint8Array): void {
    if (!this.over) this.lastInput = performance.now();
    // Nothing from below TLS may be taken for what is inside.
    if (from !== this.#socket) return;
    if (this.#bridge !== undefined) this.#bridge.received(chunk);
    // After pause(), Bun may deliver once more what it had already read.
    else if (this.#agreed !== undefined) this.#leftover.push(Buffer.from(chunk));
    else if (this.#state === "securing") this.#cut("data in the clear came before TLS");
    else if (this.#state === "negotiating") this.#negotiate(chunk);
  }

  #negotiate(chunk: Uint8Array): void {
    const { output, outcome } = this.#negotiation.push(chunk);
    this.#send(output);
    if (outcome === undefined || this.over) return;
    if (outcome.kind === "close") {
      this.#state = "closing";
      this.#closing = outcome;
      this.#continueWhenSent();
    } else if (outcome.kind === "starttls") {
      this.#state = "securing";
      this.#continueWhenSent();
    } else {
      this.#state = "agreed";
      this.#agreed = outcome;
      this.#leftover.push(Buffer.from(outcome.leftover));
      this.#socket.pause();
      this.#continueWhenSent();
    }
  }

  /** Called when the socket takes more. */
  drain(from: Socket<any>): void {
    if (from !== this.#socket) return;
    this.#bridge?.drained();
    const unsent = this.#unsent;
    this.#unsent = [];
    this.#send(unsent);
    this.#continueWhenSent();
  }

  #clientEnded(): void {
    this.#ended = true;
    if (this.#bridge !== undefined) this.#bridge.ended();
    else if (this.#state === "negotiating") this.#abort();
  }

  /** Called when the connection is closed or lost. */
  closed(): void {
    this.#tlsClose?.closed();
    this.#bridge?.closed();
    if (this.#state === "bridged") this.#state = "closed";
    this.#disconnected();
  }

  /** @param why the reason, unless negotiation itself has ended the connection */
  #disconnected(why = LEFT): void {
    if (this.#closing === undefined && why === LEFT && !this.over)
      this.#events.onAbandon(this.chosen);
    const { reason, fault } = this.#closing ?? { reason: why, fault: false };
    this.#end(reason, fault);
  }

  /** Ends a connection that negotiates. */
  terminate(): void {
    this.#disconnected("the server has no time for it any more");
    this.#abort();
  }

  #send(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      const bytes = Buffer.from(part);
      const sent = this.#unsent.length > 0 ? 0 : this.#socket.write(bytes);
      if (sent < 0) {
        // The client is gone. A paused socket, as this may be soon, would not notice.
        this.#disconnected();
        this.#socket.terminate();
        return;
      }
      if (sent < bytes.length) this.#unsent.push(bytes.subarray(sent));
    }
  }

  /** Takes the next step once all output of negotiation is sent, so that nothing overtakes it. */
  #continueWhenSent(): void {
    if (this.#unsent.length > 0) return;
    if (this.#state === "securing") this.#startTls();
    else if (this.#state === "closing") this.#close();
    else if (this.#state === "agreed") {
      // The client knows that it is done, and waits for no more.
      clearTimeout(this.#deadline);
      // Not at once: after this callback, Bun may call data() once more with what it had already read.
      setImmediate(() => this.#startTransmission());
    }
  }

  #startTls(): void {
    const { security } = this.#options;
    if (security.policy === "off") return;
    const socket: SocketHandler<undefined> = {
      data: (from, chunk) => this.data(from, chunk),
      drain: (from) => this.drain(from),
      end: () => this.#clientEnded(),
      close: () => this.closed(),
      error: () => {},
      handshake: (secure, done, error) => {
        this.lastInput = performance.now();
        // The handshake also succeeds with a certificate of another authority. Bun would then end the
        // connection without a reason.
        if (done) this.#tlsClose = new TlsClose(secure);
        const trusted = secure.authorized || security.options.rejectUnauthorized !== true;
        if (!done || !trusted) this.#cut(`TLS failed: ${error?.message ?? "no handshake"}`);
      },
    };
    try {
      this.#reopen((encrypted) => {
        const pair = encrypted.upgradeTLS({
          // Bun's types do not have this for servers.
          ...({ isServer: true } as object),
          data: undefined,
          tls: security.options,
          socket,
        });
        this.#socket = pair[1];
      });
    } catch (error) {
      this.#cut(`cannot begin TLS: ${messageOf(error)}`);
      return;
    }
    this.#negotiation.secured();
    this.#state = "negotiating";
  }

  /**
   * Moves the connection from the accepted socket to one whose callbacks are its own, without `data`: below
   * TLS, Bun would make a copy of all encrypted bytes for that.
   *
   * @param open called with the new socket before this returns
   * @throws SyscallError without a free descriptor (EMFILE); nothing has changed then
   */
  #reopen(open: (socket: Socket<Session>) => void): void {
    const accepted = this.#socket as Socket<Session | undefined>;
    // The connection does not end with this socket.
    accepted.data = undefined;
    let fd: number;
    try {
      fd = takeDescriptor(accepted);
    } catch (error) {
      accepted.data = this;
      throw error;
    }
    const { data: _, ...handler } = this.#handler;
    const socket = { ...handler, open };
    // Bun's types do not have this form.
    void Bun.connect<Session>({ fd, socket, data: this, allowHalfOpen: true } as never);
  }

  #startTransmission(): void {
    const agreed = this.#agreed;
    if (this.#state !== "agreed" || agreed === undefined) return;
    const reconnect = this.#options.reconnectOf(agreed.info);
    // Bun's types do not have `fd`.
    const { fd } = this.#socket as unknown as { readonly fd: number };
    if (reconnect !== undefined) noticeDeadPeer(fd, reconnect / 1000);
    try {
      if (this.#tlsClose === undefined) this.#handOver(agreed);
      else this.#bridgeOver(agreed, this.#tlsClose);
    } catch (error) {
      this.#state = "agreed";
      this.#cut(`cannot take over a connection: ${messageOf(error)}`);
    }
  }

  #handOver(agreed: Transmission): void {
    // Before takeDescriptor(): Bun calls closed() from within it.
    this.#state = "handed over";
    this.#emitTransmission(takeDescriptor(this.#socket), agreed);
  }

  #bridgeOver(agreed: Transmission, tlsClose: TlsClose): void {
    const [bridgeFd, streamFd] = socketpair();
    this.#bridge = new TlsBridge(this.#socket, tlsClose, bridgeFd);
    if (this.#ended) this.#bridge.ended();
    this.#state = "bridged";
    this.#emitTransmission(streamFd, agreed);
  }

  #emitTransmission(fd: number, { negotiated, info }: Transmission): void {
    const client = { fd, leftover: Buffer.concat(this.#leftover), negotiated };
    this.#events.onTransmission(client, info, () => this.#bridge?.released());
  }

  #cut(reason: string): void {
    const wasOver = this.over;
    this.#end(reason, true);
    if (!wasOver) this.#abort();
  }

  /** Closes the connection after all output, when negotiation has ended it. */
  #close(): void {
    if (this.#tlsClose !== undefined) {
      this.#tlsClose.begin();
    } else {
      this.#disconnected();
      this.#socket.end();
    }
  }

  /** Closes the connection without waiting for the client. */
  #abort(): void {
    if (this.#tlsClose !== undefined) this.#tlsClose.abort();
    else this.#socket.terminate();
  }

  #end(reason: string, fault: boolean): void {
    clearTimeout(this.#deadline);
    if (this.over) return;
    this.#state = "closed";
    this.#events.onClose(reason, fault);
  }
}

/**
 * Takes the descriptor out of a paused socket, and closes the socket. The descriptor is duplicated
 * first, so that the connection stays open and the peer notices nothing.
 *
 * @returns a non-blocking descriptor of the connection, which the caller owns
 * @throws SyscallError without a free descriptor (EMFILE); the socket is then unchanged
 */
export function takeDescriptor<Data>(socket: Socket<Data>): number {
  // Bun's types do not have these members.
  const plain = socket as unknown as { readonly fd: number; close(): void };
  const fd = dup(plain.fd);
  // end() might shut the connection down for both descriptors; terminate() would make the kernel reset
  // it when the duplicate is closed.
  plain.close();
  return fd;
}
