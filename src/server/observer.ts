/** The interface between a stream and its progress display. */
import type { Direction } from "../endpoint/spec.ts";

/** The progress of a stream, to be read at any time. */
export interface Observed {
  readonly direction: Direction;
  readonly counters: {
    /** Bytes that have moved so far. */
    readonly data: number;
    readonly zeroes: number;
    /** Something waits for the endpoint; meaningful only while the stream does not move. */
    readonly endpointAwaited: boolean;
    /** Bytes on the disk that the spool takes; 0 without one. */
    readonly spooled: number;
    /** Bytes that have been written into the spool so far. */
    readonly stored: number;
  };
  /** The stream's length in bytes; undefined is endless, or not known yet. */
  readonly length: bigint | undefined;
  /** Seconds since the first client came; 0 before. */
  readonly elapsed: number;
  /** With `--hold`; else undefined. */
  readonly phase: Phase | undefined;
  /** Seconds of {@link elapsed} that belong to the phase; all of them where there are no phases. */
  readonly phaseElapsed: number;
  readonly stage: Stage;
  /** The sink or source is open. */
  readonly opened: boolean;
}

/** Of a stream that is held (`--hold`). */
export type Phase =
  /** Clients change the disk in the spool; nothing is streamed. */
  | "holding"
  /** The clients are done; the disk is streamed. */
  | "streaming";

export type Stage =
  /** The sink or source, such as the other end of a FIFO, is not there yet, and nothing moves without it. */
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
  watch(stream: Observed, found: Found): void;
  /** The stream has ended. */
  end(): void;
}

export const NOBODY: Observer = { watch() {}, end() {} };
