/** One connection while it negotiates, on the main thread. */
import type { Socket } from "bun";
import { Negotiation } from "../handshake/negotiation.ts";
import type { ExportInfo, Negotiated } from "../protocol/export.ts";
import type { Client } from "../stream/channel.ts";
import { takeDescriptor } from "./handover.ts";

/** What becomes of sessions. */
export interface SessionEvents {
  /** Negotiation is done: the receiver owns the descriptor. */
  readonly onTransmission: (client: Client) => void;
  /** The connection ended before. @param fault true when the client broke the protocol */
  readonly onClose: (reason: string, fault: boolean) => void;
}

/** Feeds a socket's bytes to the {@link Negotiation} and its answers back, then lets go of it. */
export class Session {
  readonly #negotiation: Negotiation;
  readonly #events: SessionEvents;
  /** What the socket would not take yet. */
  #unsent: Buffer[] = [];
  /** What came after negotiation. */
  #leftover: Buffer[] = [];
  #negotiated: Negotiated = { structured: false, allocation: false };
  #state: "negotiating" | "leaving" | "gone" = "negotiating";

  constructor(
    readonly socket: Socket<Session>,
    info: ExportInfo,
    events: SessionEvents,
  ) {
    this.#negotiation = new Negotiation(info);
    this.#events = events;
  }

  /** Says the server's first words. */
  start(): void {
    this.#send([this.#negotiation.greeting()]);
  }

  /** Bytes from the client. */
  data(chunk: Uint8Array): void {
    if (this.#state === "leaving") {
      // Bun may deliver once more what it had read before it was told to pause.
      this.#leftover.push(Buffer.from(chunk));
      return;
    }
    if (this.#state !== "negotiating") return;
    const { output, outcome } = this.#negotiation.push(chunk);
    this.#send(output);
    if (outcome === undefined) return;
    if (outcome.kind === "close") {
      this.#gone(outcome.reason, outcome.fault);
      this.socket.end();
    } else {
      this.#state = "leaving";
      this.#negotiated = outcome.negotiated;
      this.#leftover.push(Buffer.from(outcome.leftover));
      this.socket.pause();
      this.#leaveWhenSent();
    }
  }

  /** The socket takes more. */
  drain(): void {
    const unsent = this.#unsent;
    this.#unsent = [];
    this.#send(unsent);
    if (this.#state === "leaving") this.#leaveWhenSent();
  }

  /** The client has closed its side, or the connection is lost. */
  closed(): void {
    this.#gone("the client left during negotiation", false);
  }

  #send(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      const bytes = Buffer.from(part);
      const sent = this.#unsent.length > 0 ? 0 : Math.max(0, this.socket.write(bytes));
      if (sent < bytes.length) this.#unsent.push(bytes.subarray(sent));
    }
  }

  /** The stream thread must not answer before the last word of negotiation is out. */
  #leaveWhenSent(): void {
    if (this.#unsent.length > 0) return;
    // Not at once: the callback that this is called from may be followed by another one with what
    // Bun had already read.
    setImmediate(() => {
      if (this.#state !== "leaving") return;
      this.#state = "gone";
      let fd: number;
      try {
        fd = takeDescriptor(this.socket);
      } catch (error) {
        this.socket.terminate();
        this.#events.onClose(`cannot take over a connection: ${(error as Error).message}`, true);
        return;
      }
      const leftover = Buffer.concat(this.#leftover);
      this.#events.onTransmission({ fd, leftover, negotiated: this.#negotiated });
    });
  }

  #gone(reason: string, fault: boolean): void {
    if (this.#state === "gone") return;
    this.#state = "gone";
    this.#events.onClose(reason, fault);
  }
}
