/** Where clients come in: a listener, and the exports, one for each stream. */
import { close } from "../../ffi/fd.ts";
import type { Log } from "../log.ts";
import { type Address, type Entrance, nbdUri } from "../net/address.ts";
import {
  ConnectionManager,
  type ConnectionSettings,
  type Negotiating,
} from "../net/connection-manager.ts";
import { Listener } from "../net/listener.ts";
import { type ExportInfo, type ExportTable, onlyExport } from "../protocol/export.ts";
import type { NegotiatedConnection } from "../stream/messages.ts";
import { requiredCertificates } from "../tls/certificates.ts";
import { RateLimitedWarning } from "./rate-limited-warning.ts";

/** Milliseconds for the event loop to accept those who are connected already. */
const ACCEPT_LIMIT = 200;

export interface NbdServerOptions extends ConnectionSettings {
  readonly entrance: Entrance;
  readonly log: Log;
  /** How many exports there will be. */
  readonly exports: number;
  /** Called right before clients can come; what it throws keeps the streams from beginning. */
  readonly onListening: () => void;
}

/** A stream, as its clients find it. */
export interface StreamExport {
  readonly info: ExportInfo;
  /** Milliseconds in which the kernel has to notice a client's dead link; undefined is its default. */
  readonly reconnect: number | undefined;
  /** Clients in the transmission phase. */
  readonly open: number;
  /** A client has chosen the export. The receiver owns its descriptor, and calls `released` after closing it. */
  connected(client: NegotiatedConnection, released: () => void): void;
  /** A client has left in negotiation, and may have been one of this export. */
  abandoned(): void;
  /** Closes an idle connection, if there is one. */
  evictIdle(): Promise<boolean>;
  /** Something has changed that the stream may wait for. */
  poke(): void;
}

/**
 * Listens from the moment in which the endpoint of the last stream is prepared, and lets clients in when all
 * streams have been added, in the same turn of the event loop. A stream that is over is taken out, and with the
 * last one the server closes.
 */
export class NbdServer implements ExportTable {
  readonly #options: NbdServerOptions;
  readonly #refusals: RateLimitedWarning;
  readonly #connections: ConnectionManager;
  readonly #exports = new Map<ExportInfo, StreamExport>();
  readonly #prepared = Promise.withResolvers<void>();
  readonly #listening = Promise.withResolvers<void>();
  #waiting = 0;
  #added = 0;
  #listener: Listener | undefined;
  #closed = false;

  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#prepared.promise.catch(() => {});
    this.#listening.promise.catch(() => {});
    this.#refusals = new RateLimitedWarning(
      (message) => options.log.warn(message),
      (count) => `${count} more connections were refused`,
    );
    this.#connections = new ConnectionManager(
      {
        ...options,
        exports: this,
        reconnectOf: (info) => this.#exports.get(info)?.reconnect,
        inTransmission: () => this.#sum((stream) => stream.open),
        makeRoom: () => void this.#makeRoom(),
      },
      {
        onTransmission: (client, info, released) => {
          const stream = this.#exports.get(info);
          if (stream !== undefined) return stream.connected(client, released);
          close(client.fd);
          released();
        },
        onAbandon: (chosen) => {
          for (const stream of this.#streams(chosen)) stream.abandoned();
        },
        onClose: (reason, fault) => {
          if (fault) this.#refusals.warn({ code: "CONNECTION_REFUSED", reason });
          else options.log.verbose(reason);
          for (const stream of this.#streams()) stream.poke();
        },
      },
    );
  }

  /**
   * Waits until all streams have called this, each with its endpoint prepared; for the last one, begins to
   * listen. No stream thread exists then: it would open its FIFO, and its reader would see an end.
   *
   * @throws UserError when it cannot listen, and the error for which another stream cannot begin
   */
  async prepared(): Promise<void> {
    if (++this.#waiting === this.#options.exports && !this.#closed) this.#listen();
    await this.#prepared.promise;
  }

  #listen(): void {
    try {
      this.#connections.reserve(this.#options.exports);
      this.#listener = new Listener(this.#options.entrance, this.#connections.handler);
      this.#options.onListening();
      this.#prepared.resolve();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Adds a stream that has all it needs. With the last one, clients can come. */
  add(stream: StreamExport): void {
    this.#exports.set(stream.info, stream);
    this.#added++;
    if (this.#added === this.#options.exports) this.#listening.resolve();
  }

  /** Resolves when clients can connect; rejects with the error for which they never can. */
  get listening(): Promise<void> {
    return this.#listening.promise;
  }

  /** Where clients can connect; undefined for `--single` and for a passed socket without an address. */
  get address(): Address | undefined {
    return this.#listener?.address;
  }

  /** Where clients of this machine find an export; undefined where {@link address} is. */
  uri(exportName = ""): string | undefined {
    const { security } = this.#options;
    return this.address && nbdUri(this.address, exportName, requiredCertificates(security));
  }

  get all(): readonly ExportInfo[] {
    return [...this.#exports.keys()];
  }

  find(name: string): ExportInfo | undefined {
    const { all } = this;
    if (this.#options.exports === 1) return all[0] && onlyExport(all[0]).find(name);
    return all.find((info) => info.name === name);
  }

  /** Connections accepted so far. */
  get accepted(): number {
    return this.#connections.accepted;
  }

  /** Clients that negotiate, and may come to be an export's. @param accepted counts only so many, the first ones */
  negotiating(info: ExportInfo, accepted?: number): Negotiating {
    return this.#connections.negotiating(info, accepted);
  }

  /** Waits until every connection in the kernel's queue is accepted, or refused. */
  async acceptAll(): Promise<void> {
    const deadline = performance.now() + ACCEPT_LIMIT;
    const isComing = () => this.#listener?.hasWaiting === true || this.#connections.hasWaiting;
    while (!this.#closed && isComing() && performance.now() < deadline) await Bun.sleep(1);
  }

  /** Takes an export out: it has no new clients. With the last one, stops listening. */
  remove(info: ExportInfo): void {
    if (!this.#exports.delete(info)) return;
    if (this.#added === this.#options.exports && this.#exports.size === 0) this.#close();
    else this.#connections.closeExport(info);
  }

  /** Gives up, where a stream cannot begin. Once clients can connect, the others go on. */
  fail(error: unknown): void {
    if (this.#added === this.#options.exports) return;
    this.#prepared.reject(error);
    this.#listening.reject(error);
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener?.close();
    this.#connections.close();
  }

  /** Waits until the clients of an export with TLS have taken the last bytes. Its stream thread must have ended. */
  flushTls(info: ExportInfo, stop: AbortSignal): Promise<void> {
    return this.#connections.flushTls(info, stop);
  }

  /** Tells how many more connections were refused. */
  end(): void {
    this.#refusals.end();
  }

  #streams(chosen?: ExportInfo): StreamExport[] {
    const all = [...this.#exports];
    return all.filter(([info]) => chosen === undefined || chosen === info).map(([, one]) => one);
  }

  async #makeRoom(): Promise<void> {
    for (const stream of this.#streams()) if (await stream.evictIdle()) break;
    this.#connections.makeRoomDone();
  }

  #sum(of: (stream: StreamExport) => number): number {
    return this.#streams().reduce((sum, stream) => sum + of(stream), 0);
  }
}
