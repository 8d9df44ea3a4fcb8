/** The options of `serve` and `run`. */
import type { CaptiveCommand } from "../captive/command.ts";
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import { type Address, type Entrance, NBD_PORT } from "../net/address.ts";
import type { Size } from "../size.ts";

/** Default values. Times are in seconds; 0 is no limit. */
export const DEFAULTS = {
  window: 0,
  negotiationTimeout: 10,
  /** Long enough to notice that a client was stopped by mistake. */
  idleTimeout: { serve: 60, run: 0 },
  maxConnections: 100,
  progressInterval: 1,
  listen: { kind: "tcp", host: "127.0.0.1", port: NBD_PORT },
} as const;

/**
 * Options of every stream. Their names are those of the command line; docs/command-line.md describes them.
 * One of `pipe` and `read` is needed.
 */
export interface StreamOptions {
  /**
   * Where the stream goes, as on the command line: a path, `-`, `fd:N`, `tcp:HOST:PORT` or
   * `exec:COMMAND`; or an open descriptor, which stays the caller's.
   */
  readonly pipe?: string | number | undefined;
  /** Where the stream comes from, in the same forms. */
  readonly read?: string | number | undefined;
  /** The stream's length. Default: what is left of the file that is read; else no end. */
  readonly size?: Size | undefined;
  /** How much is held in memory: written ahead of its turn, or read and wanted again. Default: 0. */
  readonly window?: Size | undefined;
  /** Serve only this export name (and the empty one). Default: any. */
  readonly exportName?: string | undefined;
  /** Where to write the process id when clients can connect. */
  readonly pidFile?: string | undefined;
  /**
   * True lengthens a complete stream to `size` with zeroes, false lets it be shorter. Default: `run`
   * lengthens what is written, and `serve` takes a short stream for truncated.
   */
  readonly pad?: boolean | undefined;
  /** `read`: a source that is longer than `size` is an error, not only a warning. */
  readonly exact?: boolean | undefined;
  /** Seconds to wait for the other end of a FIFO. Default: as long as it takes. */
  readonly openTimeout?: number | undefined;
  /** Seconds that a client whose connection is lost has to come back. Default: none. */
  readonly reconnect?: number | undefined;
  /** Seconds from the connection to the choice of the export. Default: 10. */
  readonly negotiationTimeout?: number | undefined;
  /**
   * Seconds that a client may stop for in the middle of a request or of taking its answer, or hold up
   * others without moving anything; 0 is for ever. Default: 60 for `serve`, 0 for `run`.
   */
  readonly idleTimeout?: number | undefined;
  /** Clients at a time. Default: 100. */
  readonly maxConnections?: number | undefined;
  /** Default: without TLS. */
  readonly tls?: TlsOptions | undefined;
  /** What to checksum what is streamed by; it is in the summary. */
  readonly checksum?: ChecksumAlgorithm | undefined;
  /** Seconds between two "progress" events. Default: 1. */
  readonly progressInterval?: number | undefined;
  /**
   * Called when all that the stream needs is there, right before clients can connect and the command
   * is run. What it throws is what the stream rejects with, and nothing is streamed.
   */
  readonly beforeStart?: (() => void) | undefined;
  /** Ends the stream when it is aborted, as {@link Streaming.stop} does. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The stream thread's file. A program that is compiled into one file has to name
   * `nbd-streaming/stream.worker` as a second entry point, and to tell here where that has got to.
   */
  readonly workerUrl?: URL | undefined;
}

export interface TlsOptions {
  /** Whether clients may or must use it. */
  readonly policy: "on" | "require";
  /** The folder of `server-cert.pem`, `server-key.pem` and `ca-cert.pem`. */
  readonly certificates: string;
  /** Of the clients that use it, serve only those with a certificate of `ca-cert.pem`. */
  readonly verifyPeer?: boolean | undefined;
}

export interface ServeOptions extends StreamOptions {
  /** Where clients come from. Default: TCP port 10809 of 127.0.0.1. */
  readonly listen?: Entrance | undefined;
  /** Go on listening after a client has finished; {@link Streaming.stop} then ends the stream. */
  readonly keep?: boolean | undefined;
}

/** One of `command` and `image` is needed. */
export interface RunOptions extends StreamOptions {
  /** Where to listen. Default: on a private Unix socket. */
  readonly listen?: Address | undefined;
  /**
   * The client. A string is a command line for the shell. Words are executed without one, and
   * `$nbd`, `$uri`, `$unixsocket`, `$port`, `$exportname` and `$tls` in them stand for the server;
   * in both cases they are in its environment.
   */
  readonly command?: CaptiveCommand | undefined;
  /** The image that qemu-img(1) is to copy into the stream of `pipe`, or to make of that of `read`. */
  readonly image?: string | undefined;
  /** Of `image`, by qemu-img's names. Default: found out, or by its extension where it is made. */
  readonly format?: string | undefined;
}

declare module "../messages/vocabulary.ts" {
  interface LibraryOptions extends Record<keyof ServeOptions | keyof RunOptions, unknown> {}
}
