/** What the main thread and the stream thread say to each other: plain data. */
import type { MessagePort } from "node:worker_threads";
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { Direction, EndpointHandle } from "../endpoint/spec.ts";
import type { NegotiatedConnection } from "./channel.ts";
import type { Failure, ReadBack } from "../messages/notice.ts";
import type { DryRunFindings } from "./dry-run-findings.ts";

/** So many bytes from the start of a stream tell what it holds. */
export const START = 512;

/** What a stream is. */
export interface StreamPlan {
  readonly direction: Direction;
  readonly endpoint: EndpointHandle;
  /** The stream's length in bytes; undefined is without end. */
  readonly size: bigint | undefined;
  /** Bytes held in memory, when written ahead of the head, when read behind it; 0 is none. */
  readonly window: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly reconnect: boolean;
  readonly checksum: ChecksumAlgorithm | undefined;
  /**
   * Milliseconds that a client may stop for in the middle of a request, or may have a place that
   * others need without moving anything; undefined is for ever.
   */
  readonly idleTimeout: number | undefined;
  /** When read: zeroes take the place of what a source that ends early has not. */
  readonly pad: boolean;
  /** When read: a source that is longer than `size` is an error. */
  readonly exact: boolean;
  /** When read: the end of the source is its end only after a {@link Command} "settled". */
  readonly settles: boolean;
  /** When written: nothing gets to the endpoint; what the clients do is recorded instead. */
  readonly survey?: boolean;
}

/**
 * True where clients of a stream that is written may flush it: what a pipe or a socket has accepted is
 * as safe as it gets there. A file or a device would have to have it on stable storage, and it does at
 * the end only. What is recorded is to be as of a pipe.
 */
export function flushes({ endpoint, survey }: StreamPlan): boolean {
  return endpoint.kind !== "file" || survey === true;
}

/** What the stream thread is started with. */
export interface StreamThreadData extends StreamPlan {
  readonly port: MessagePort;
  /** An eventfd that the main thread signals after it has posted a {@link Command}. */
  readonly wakeFd: number;
  /** Shared memory of `Counters`. */
  readonly counters: SharedArrayBuffer;
}

/** From the main thread. */
export type Command =
  /** A client has finished negotiation. The stream thread owns its descriptor from now on. */
  | { readonly type: "connection"; readonly id: number; readonly client: NegotiatedConnection }
  /** After "source-ended": what its process came to; undefined is well. */
  | { readonly type: "settled"; readonly problem: string | undefined }
  /** Tell where things stand, at once. */
  | { readonly type: "look" }
  /**
   * End the connections of clients that are not waited for any more: of all, or of those that have
   * moved nothing and of which something would have to come first.
   */
  | { readonly type: "dismiss"; readonly whom: "all" | "silent" }
  /** A client has come for whom there is no place: end a connection that holds one for nothing. */
  | { readonly type: "make-room" }
  /** No client that was lost comes back any more. */
  | { readonly type: "give-up" }
  /** All clients are gone and all is well: emit what is pending. */
  | { readonly type: "finish"; readonly short: ShortStream }
  /** Answer with the event of this name, after all that has happened before. */
  | { readonly type: "echo" }
  /** Stop at once; nothing more is emitted. */
  | { readonly type: "abort" };

/**
 * What a stream is that has ended below its size, whether it was written or read up to there:
 * lengthened with zeroes (if it was written), complete as it is, or truncated.
 */
export type ShortStream = "pad" | "allow" | "fail";

/** How a connection ended. */
export type ConnectionEnd =
  /** The client said NBD_CMD_DISC. */
  | "disconnected"
  /** The client closed or lost the connection between two requests. */
  | "dropped"
  /** The connection ended in the middle of a request. */
  | "cut"
  /** What the client sent is not NBD, or announces a larger payload than it may send. */
  | "garbage"
  /** The client was still connected when nobody waited for it any more. */
  | "left-behind"
  /** The client had moved nothing when the others were done. */
  | "dismissed"
  /** The client had moved nothing for long, and its place was needed. */
  | "displaced"
  /** The client stopped in the middle of a request, or of taking the answer to it, for too long. */
  | "stalled"
  /** The client has come back on another connection, and repeats what it had sent here. */
  | "replaced";

/** From the stream thread. */
export type StreamEvent =
  /** The reader of a sink, or the writer of a source, is there. */
  | { readonly type: "endpoint-open" }
  | {
      readonly type: "closed";
      readonly id: number;
      readonly end: ConnectionEnd;
      /** True when the client moved the stream, and no later one has taken its place. */
      readonly streamed: boolean;
    }
  /** Of a client that moved the stream: whether another one that came later has taken its place. */
  | { readonly type: "superseded"; readonly id: number; readonly superseded: boolean }
  /** After a client was lost, one has gone on with the stream. */
  | { readonly type: "resumed" }
  /** The stream is broken for good. Sent once. */
  | { readonly type: "broken"; readonly failure: Failure }
  /** A WRITE or WRITE_ZEROES was refused with an `NBD_E*` value; the stream lacks what it held. */
  | { readonly type: "refused"; readonly request: string; readonly error: number }
  /** The stream's first bytes, at most START of them. Sent once, unless it begins with zeroes of a gap. */
  | { readonly type: "begins"; readonly bytes: Uint8Array }
  /** A client wanted to read what has gone by. Sent once. */
  | ({ readonly type: "read-back" } & ReadBack)
  /** The source is at its end; its process may have something to say to that. */
  | { readonly type: "source-ended" }
  /** The source has more than the stream's size. @see Surplus */
  | ({ readonly type: "surplus" } & Surplus)
  /** The answer to the command of this name. */
  | { readonly type: "echo" }
  /** The answer to "look". */
  | ({ readonly type: "standing" } & Standing)
  /** The answer to "make-room", behind the event of the connection that has ended, if one has. */
  | { readonly type: "room"; readonly made: boolean }
  /** The last event: the endpoint is closed. */
  | ({ readonly type: "ended" } & Ended);

/** Where a stream and its clients stand. */
export interface Standing {
  /**
   * The stream has all that it can have: it was written, or zeroed, up to its size, or read up to it.
   */
  readonly full: boolean;
  /** It has moved since the last look, be it in memory only. */
  readonly moved: boolean;
  /** Clients that have moved it, or that wait for the endpoint or for other clients. */
  readonly engaged: number;
  /** One of them waits for the endpoint. */
  readonly held: boolean;
  /** Milliseconds since the last word of a client; Infinity where there is none. */
  readonly silence: number;
}

/** What a source has behind the stream's end. */
export interface Surplus {
  readonly bytes: number;
  /** True when there may be more: the source was not read to its end. */
  readonly more: boolean;
}

/** What there is to tell about a stream that has ended. */
export interface Ended {
  /** How much of the window was needed, in bytes. */
  readonly windowNeeded: number;
  /** The checksum, in hex, of what was emitted or read, if one was asked for. */
  readonly checksum: string | undefined;
  /** The source was read to its end. */
  readonly sourceEnded: boolean;
  /** What the clients have done, if that was asked for. */
  readonly survey?: DryRunFindings | undefined;
}
