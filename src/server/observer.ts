/** The interface between a stream and its progress display. */
import type { Direction } from "../endpoint/spec.ts";

/** The progress of a stream, to be read at any time. */
export interface Observed {
  readonly counters: {
    /** Bytes that have moved so far. */
    readonly data: number;
    readonly zeroes: number;
    /** Something waits for the endpoint; meaningful only while the stream does not move. */
    readonly endpointAwaited: boolean;
  };
  /** Seconds since the first client came; 0 before. */
  readonly elapsed: number;
  readonly stage: Stage;
  /** The sink or source is open. */
  readonly opened: boolean;
}

export interface StreamKind {
  readonly direction: Direction;
  /** The stream's length in bytes; undefined is endless. */
  readonly size: bigint | undefined;
}

export type Stage =
  /** The other end of a FIFO is not there yet. */
  | "opening"
  /** No client is connected. */
  | "deserted"
  /** A client is connected. */
  | "running"
  /** The clients are done; the rest is emitted, and the endpoint has to finish. */
  | "ending";

/** Where clients of this machine find it; undefined for a socket that was passed, or is a client. */
export interface Found {
  /** The stream. */
  readonly uri: string | undefined;
  /** The server, without the stream's name. */
  readonly serverUri: string | undefined;
}

export interface Observer {
  /** The stream begins: clients can connect. */
  watch(stream: Observed, kind: StreamKind, found: Found): void;
  /** The stream has ended. */
  end(): void;
}

export const NOBODY: Observer = { watch() {}, end() {} };
