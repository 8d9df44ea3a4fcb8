/** What a progress display, or a program, can see of a stream while it runs. */
import type { Direction } from "../endpoint/spec.ts";

/** What there is to see of a stream, at any time; the stream does not notice. */
export interface Observed {
  /** What has moved so far, in bytes. */
  readonly counters: {
    readonly data: number;
    readonly zeroes: number;
    /** Something waits for the endpoint; means something only of a stream that does not move. */
    readonly endpointAwaited: boolean;
  };
  /** Seconds since the first client came; 0 before. */
  readonly elapsed: number;
  readonly stage: Stage;
  /** The stream has been connected with its sink or source. */
  readonly opened: boolean;
}

/** What does not change about a stream. */
export interface StreamKind {
  readonly direction: Direction;
  /** The stream's length in bytes; undefined is without end. */
  readonly size: bigint | undefined;
}

/** How far a stream is. */
export type Stage =
  /** The other end of a FIFO is not there yet. */
  | "opening"
  /** No client is connected. */
  | "deserted"
  /** A client is connected. */
  | "running"
  /** The clients are done: what is pending is brought out, and the endpoint has to be done, too. */
  | "ending";

export interface Observer {
  /**
   * The stream begins: clients can connect.
   *
   * @param uri where clients of this machine can connect; undefined for a socket that was passed, or is a client
   */
  watch(stream: Observed, kind: StreamKind, uri: string | undefined): void;
  /** The stream has ended. */
  end(): void;
}

/** Looks at nothing. */
export const NOBODY: Observer = { watch() {}, end() {} };
