/** What the main thread and the stream thread say to each other: plain data. */
import type { MessagePort } from "node:worker_threads";
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { Direction, EndpointHandle } from "../endpoint/spec.ts";
import type { Failure, ReadBack } from "../messages/notice.ts";
import { type Negotiated, UNBOUNDED_SIZE } from "../protocol/export.ts";
import { type Offset, toOffset } from "../protocol/offset.ts";

/** Bytes from the start of a stream that are enough to recognize its format. */
export const START = 512;

/**
 * Bytes that are kept where clients may come back: of what is out, to compare with what is repeated,
 * and for what comes ahead of its turn, as a client sends what it had in flight in any order. qemu-img
 * has at most 16 requests of 2 MiB in flight.
 */
export const IN_FLIGHT = 64 * 1024 * 1024;

/** What the stream thread has to know of the settings of a stream. */
export interface FlowSettings {
  readonly direction: Direction;
  /** The stream's length in bytes; undefined is without end, or what a source itself tells. */
  readonly size: bigint | undefined;
  /** The user's `window=`, in bytes; 0 is none. */
  readonly window: number;
  /**
   * Bytes held in memory, when written ahead of the head, when read behind it: the window, and where
   * clients may come back at least {@link IN_FLIGHT}.
   */
  readonly held: number;
  /** Milliseconds that a client whose connection is lost has to come back and go on; undefined is none. */
  readonly reconnect: number | undefined;
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
  /** When written: nothing gets to the endpoint; what the clients do is recorded instead. */
  readonly dryRun?: boolean;
}

/** What a stream is. */
export interface StreamPlan extends FlowSettings {
  readonly endpoint: EndpointHandle;
  /** When read: the end of the source is its end only after a {@link Command} "exited". */
  readonly awaitsExit: boolean;
}

/** What stands for the stream's end where it has none, or its size, in bytes. */
export function endOf({ size }: Pick<FlowSettings, "size">): Offset {
  return toOffset(size ?? UNBOUNDED_SIZE);
}

/**
 * True where clients of a stream that is written may flush it: what a pipe or a socket has accepted is
 * as safe as it gets there. A file or a device would have to have it on stable storage, and it does at
 * the end only. What is recorded is to be as of a pipe.
 */
export function flushes({ endpoint, dryRun }: StreamPlan): boolean {
  return endpoint.kind !== "file" || dryRun === true;
}

/** What the stream thread is started with. */
export interface StreamThreadData extends StreamPlan {
  readonly port: MessagePort;
  /** An eventfd that the main thread signals after it has posted a {@link Command}. */
  readonly wakeFd: number;
  /** Shared memory of `Counters`. */
  readonly counters: SharedArrayBuffer;
}

/** A connection as it comes out of negotiation. */
export interface NegotiatedConnection {
  readonly fd: number;
  /** What the client sent while it negotiated. */
  readonly leftover: Uint8Array;
  readonly negotiated: Negotiated;
}

/** From the main thread. */
export type Command =
  /** A client has finished negotiation. The stream thread owns its descriptor from now on. */
  | { readonly type: "connection"; readonly id: number; readonly client: NegotiatedConnection }
  /** After "source-ended": its process has ended, and what is wrong with that; undefined is nothing. */
  | { readonly type: "exited"; readonly problem: string | undefined }
  /** Post a "status" at once. */
  | { readonly type: "get-status" }
  /**
   * End the connections of clients that are not waited for any more: of all, or of those that have
   * moved nothing and of which something would have to come first.
   */
  | { readonly type: "dismiss"; readonly whom: "all" | "silent" }
  /** There are too many connections for a new client: end one that has been idle for long. */
  | { readonly type: "evict-idle" }
  /** No client that was lost comes back any more. */
  | { readonly type: "end-reconnect" }
  /** All clients are gone and all is well: emit what is pending. */
  | { readonly type: "finish"; readonly short: ShortStream }
  /** Post "synced", after all that has happened before. */
  | { readonly type: "sync" }
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
  /** The client closed or lost the connection in the middle of a request. */
  | "cut"
  /** What the client sent is not NBD, or announces a larger payload than it may send. */
  | "garbage"
  /** The client was still connected when it was not waited for any more. */
  | "left-behind"
  /** The client had moved nothing when the others were done. */
  | "dismissed"
  /** The client had moved nothing for long, and another one needed its place. */
  | "displaced"
  /** The client stopped in the middle of a request, or of taking the reply to it, for too long. */
  | "stalled"
  /** The client has come back on another connection, and repeats there what it had sent here. */
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
  /** All clients that were lost have come back. */
  | { readonly type: "resumed" }
  /** The stream is broken for good. Sent once. */
  | { readonly type: "broken"; readonly failure: Failure }
  /** A WRITE or WRITE_ZEROES was refused with an `NBD_E*` value; the stream lacks what it held. */
  | { readonly type: "refused"; readonly request: string; readonly error: number }
  /** The stream's first bytes, at most START of them. Sent once, unless it begins with zeroes of a gap. */
  | { readonly type: "first-bytes"; readonly bytes: Uint8Array }
  /** A client wanted to read what had been streamed already. Sent once. */
  | ({ readonly type: "read-back" } & ReadBack)
  /** The source is at its end: now the exit status of its process is wanted. */
  | { readonly type: "source-ended" }
  /** The source has more than the stream's size. @see Surplus */
  | ({ readonly type: "surplus" } & Surplus)
  /** Answers "sync". */
  | { readonly type: "synced" }
  /** Answers "get-status". */
  | ({ readonly type: "status" } & StreamStatus)
  /** Answers "evict-idle"; the "closed" of the connection, if one was ended, comes first. */
  | { readonly type: "evicted"; readonly found: boolean }
  /** The last event: the endpoint is closed. */
  | ({ readonly type: "ended" } & Ended);

/** How far a stream is, and what its clients do. */
export interface StreamStatus {
  /**
   * The stream has all that it can have: it was written, or zeroed, up to its size, or read up to it.
   */
  readonly full: boolean;
  /** It has moved since the last status, be it in memory only. */
  readonly moved: boolean;
  /** Clients that have moved it, or that wait for the endpoint or for other clients. */
  readonly active: number;
  /** Silent connections of which a later one has taken the place (`--reconnect`). */
  readonly stale: number;
  /** A client waits for the endpoint. */
  readonly waitsForEndpoint: boolean;
  /** Milliseconds since a client last said something; Infinity where there is no client. */
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
  /** What the clients have done, in a dry run. */
  readonly dryRun?: DryRunFindings | undefined;
}

/** A number of requests and their bytes. */
export interface Tally {
  readonly requests: number;
  readonly bytes: number;
}

/** A request that came behind data that was written before. */
export interface BackwardRequest {
  /** The request, as messages have it. */
  readonly request: string;
  readonly offset: Offset;
  /** Bytes. */
  readonly length: Offset;
  /** How far the data had come by then. */
  readonly head: Offset;
}

/** What clients have done to a disk that is to be a stream. */
export interface DryRunFindings {
  /** NBD_CMD_WRITE. */
  readonly writes: Tally;
  /** NBD_CMD_WRITE_ZEROES. */
  readonly zeroes: Tally;
  /** What was left out when a WRITE came: neither written nor zeroed until then. */
  readonly gaps: Tally;
  /** What came behind data that was written before, whether it came twice or late. */
  readonly backward: Tally;
  /** The first of these, a few. */
  readonly places: readonly BackwardRequest[];
  /** The longest way back, in bytes. */
  readonly farthest: Offset;
  /** NBD_CMD_READ. */
  readonly reads: Tally;
  /** Of these, the ones that found something in the window that was held for them. */
  readonly readsHeld: Tally;
  /** Of these, the ones that wanted data that had been streamed already. */
  readonly readsBack: Tally;
  readonly flushes: number;
  /** A WRITE has come before the one before it was answered: their order may depend on chance. */
  readonly concurrent: boolean;
  /** Where the stream would end: behind all that was written or zeroed. */
  readonly end: Offset;
  /**
   * The smallest `window=` with which the stream would have been the same for the client, and complete;
   * how much of it was needed; and the largest such window. Bytes; 0 is none. Undefined when none
   * would do.
   */
  readonly window:
    { readonly size: number; readonly needed: number; readonly largest: number } | undefined;
  /**
   * A larger window would have answered the client otherwise than it was answered, with which it may
   * have gone on in another way.
   */
  readonly undecided: boolean;
  /** The client scatters its data over more places than are followed: larger windows may do. */
  readonly scattered: boolean;
}
