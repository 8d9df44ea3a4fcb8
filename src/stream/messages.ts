/** The messages between the main thread and the stream thread: plain data. */
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { Direction, EndpointHandle } from "../endpoint/spec.ts";
import type { Failure, ReadBack } from "../messages/notice.ts";
import { type Negotiated, UNBOUNDED_SIZE } from "../protocol/export.ts";
import { type Offset, toOffset } from "../protocol/offset.ts";

/** Bytes at the start of a stream that are enough to recognize its format. */
export const START = 512;

/**
 * Bytes that are kept where clients may come back: of emitted data, to compare it with repeated requests, and
 * of data ahead of its turn, as a client repeats its requests in any order. qemu-img has at most 16 requests
 * of 2 MiB in flight.
 */
export const IN_FLIGHT = 64 * 1024 * 1024;

/** The settings that the stream thread needs. */
export interface FlowSettings {
  readonly direction: Direction;
  /** The stream's length in bytes; undefined is endless, or the length of the source. */
  readonly size: bigint | undefined;
  /** The user's `window=`, in bytes; 0 is none. */
  readonly window: number;
  /**
   * Bytes held in memory, ahead of the head when written, behind it when read: the window, and at least
   * {@link IN_FLIGHT} if clients may come back.
   */
  readonly held: number;
  /**
   * Milliseconds that a client whose connection is lost has to come back, and its link to be found dead; undefined
   * is none.
   */
  readonly reconnect: number | undefined;
  readonly checksum: ChecksumAlgorithm | undefined;
  /**
   * Milliseconds that a client may stop for in the middle of a request, or may be idle while others need its
   * place; undefined is no limit.
   */
  readonly idleTimeout: number | undefined;
  /** When read: zeroes follow a source that ends early. */
  readonly pad: boolean;
  /** When read: a source that is longer than `size` is an error. */
  readonly exact: boolean;
  /** When written: nothing is emitted before the good end. It needs a spool. */
  readonly hold: boolean;
  /**
   * When written: only records what the clients do; nothing gets to the endpoint. With a spool, READs get the
   * replies of a stream that has it.
   */
  readonly dryRun?: boolean;
}

/** The open file of `spool=`, which the stream thread owns. */
export interface SpoolHandle {
  readonly fd: number;
  /** The user's text, for messages. */
  readonly folder: string;
  /** Its file system can make holes (fallocate(2), FALLOC_FL_PUNCH_HOLE). */
  readonly punches: boolean;
  /** Its file system can make zeroes that have room on the disk (FALLOC_FL_ZERO_RANGE). */
  readonly zeroesInPlace: boolean;
  /** Its file system tells by sync_file_range(2) of data that was lost on its way to the disk. */
  readonly reportsLosses: boolean;
}

export interface StreamPlan extends FlowSettings {
  /** When written: the file for data that is not streamed yet. */
  readonly spool?: SpoolHandle | undefined;
  /** Undefined for a sink that a {@link Command} "sink" brings. */
  readonly endpoint: EndpointHandle | undefined;
  /** When read: the end of the source is its end only after a {@link Command} "exited". */
  readonly awaitsExit: boolean;
  /** There is only one client, ever. */
  readonly single: boolean;
}

/** Leaves out what else the settings of a stream have. @param opened what the open endpoint has told */
export function planOf(
  settings: FlowSettings,
  opened: Pick<StreamPlan, "size" | "endpoint" | "awaitsExit" | "single" | "spool">,
): StreamPlan {
  const { direction, window, held, reconnect, checksum } = settings;
  const { idleTimeout, pad, exact, hold, dryRun = false } = settings;
  const common = { direction, window, held, reconnect, checksum, idleTimeout };
  const flow = { ...common, pad, exact, hold, dryRun };
  return { ...flow, ...opened };
}

/** The stream's size in bytes; for an endless stream, the size that is advertised. */
export function endOf({ size }: Pick<FlowSettings, "size">): Offset {
  return toOffset(size ?? UNBOUNDED_SIZE);
}

/**
 * True if a stream that is written offers NBD_CMD_FLUSH: data that a pipe or a socket has accepted is as safe
 * as it can be. A file or a device would need it on stable storage, where it gets only at the end. A dry run
 * behaves like a pipe.
 */
export function flushes({ endpoint, dryRun }: StreamPlan): boolean {
  return endpoint?.kind !== "file" || dryRun === true;
}

/** The first message to the stream thread. */
export interface StreamThreadData extends StreamPlan {
  /** The thread stays after "ended". */
  readonly stays: boolean;
  /** An eventfd that the main thread signals after it has posted a {@link Command}. */
  readonly wakeFd: number;
  /** Shared memory of `Counters`. */
  readonly counters: SharedArrayBuffer;
}

/** A connection after negotiation. */
export interface NegotiatedConnection {
  readonly fd: number;
  /** Bytes that came behind the negotiation. */
  readonly leftover: Uint8Array;
  readonly negotiated: Negotiated;
}

/** From the main thread. */
export type Command =
  /** A client has finished negotiation. The stream thread owns its descriptor from now on. */
  | { readonly type: "connection"; readonly id: number; readonly client: NegotiatedConnection }
  /** After "source-ended": the source's process has ended; undefined if it has succeeded. */
  | { readonly type: "exited"; readonly problem: string | undefined }
  /** Post a "status" at once. */
  | { readonly type: "get-status" }
  /**
   * End the connections of clients that are not waited for any more: of all, or of those that have moved
   * nothing and would have to send something next.
   */
  | { readonly type: "dismiss"; readonly whom: "all" | "silent" }
  /** There are too many connections for a new client: end one that has been idle for long. */
  | { readonly type: "evict-idle" }
  /** No lost client can come back any more. */
  | { readonly type: "end-reconnect" }
  /**
   * All clients are gone and all is well: emit what is pending. `asks`: of a stream that is held, "at-end" is
   * posted before its reader can see the end.
   */
  | { readonly type: "finish"; readonly short: ShortStream; readonly asks?: boolean }
  /** Answers "at-end". */
  | { readonly type: "end" }
  /** The sink that was not opened with the stream is ready to be opened now. */
  | { readonly type: "sink"; readonly endpoint: EndpointHandle }
  /** Post "synced", after the events of everything that has happened before. */
  | { readonly type: "sync" }
  /** Stop at once; nothing more is emitted. */
  | { readonly type: "abort" };

/** A stream that ends below its size is padded with zeroes (if written), complete as it is, or truncated. */
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
  /** The client was connected when it was not waited for any more. */
  | "left-behind"
  /** The client had moved nothing when the others were done. */
  | "dismissed"
  /** The client had moved nothing for a long time, and another one needed its place. */
  | "displaced"
  /** The client stopped in the middle of a request, or of taking the reply to it, for too long. */
  | "stalled"
  /** The client has come back on another connection, and repeats its requests there. */
  | "replaced";

/** From the stream thread. */
export type StreamEvent =
  /** The endpoint is open: the reader of a sink, or the writer of a source, is connected. */
  | { readonly type: "endpoint-open" }
  | {
      readonly type: "closed";
      readonly id: number;
      readonly end: ConnectionEnd;
      /** True when the client moved the stream, and no later one has taken its place. */
      readonly streamed: boolean;
    }
  /** A stream that was held goes out now. `length`: its bytes. */
  | { readonly type: "streaming"; readonly length: Offset }
  /** All clients that were lost have come back. */
  | { readonly type: "resumed" }
  /** The stream is broken. Sent once. */
  | { readonly type: "broken"; readonly failure: Failure }
  /** A WRITE or WRITE_ZEROES was refused with an `NBD_E*` value; the stream lacks its data. */
  | { readonly type: "refused"; readonly request: string; readonly error: number }
  /** The stream's first bytes, at most START of them. Sent once, unless it begins with zeroes of a gap. */
  | { readonly type: "first-bytes"; readonly bytes: Uint8Array }
  /** A client wanted to read below the head. Sent once. */
  | ({ readonly type: "read-back" } & ReadBack)
  /** The source is at its end, and the exit status of its process is needed. */
  | { readonly type: "source-ended" }
  /** The source is longer than the stream's size. */
  | ({ readonly type: "surplus" } & Surplus)
  /** All of a stream that was held is out, and read as far as that is known: its reader sees the end after "end". */
  | { readonly type: "at-end" }
  /** Answers "sync". */
  | { readonly type: "synced" }
  /** Answers "get-status". */
  | ({ readonly type: "status" } & StreamStatus)
  /** Answers "evict-idle"; the "closed" of the connection, if one was ended, comes first. */
  | { readonly type: "evicted"; readonly found: boolean }
  /** The last event: the endpoint is closed. */
  | ({ readonly type: "ended" } & Ended)
  /** In place of "ended": a bug in the program. */
  | { readonly type: "crashed"; readonly error: Error };

/** The state of a stream and its clients. */
export interface StreamStatus {
  /** The stream was written, or zeroed, up to its size, or read up to it. */
  readonly full: boolean;
  /** It has moved since the last status, even if only in memory. */
  readonly moved: boolean;
  /** Clients that have moved it, or that wait for the endpoint or for other clients. */
  readonly active: number;
  /** Connections that are silent in a WRITE that their client has sent whole on a later one (`--reconnect`). */
  readonly repeated: number;
  /** A client waits for the endpoint. */
  readonly waitsForEndpoint: boolean;
  /** Milliseconds since a client last sent something; Infinity if there is no client. */
  readonly silence: number;
}

/** Bytes of a source behind the stream's end. */
export interface Surplus {
  readonly bytes: number;
  /** True when there may be more: the source was not read to its end. */
  readonly more: boolean;
}

/** The results of a stream that has ended. */
export interface Ended {
  /** How much of the window was needed, in bytes. */
  readonly windowNeeded: number;
  /** The checksum, in hex, if one was asked for. */
  readonly checksum: string | undefined;
  /** The source was read to its end. */
  readonly sourceEnded: boolean;
  readonly dryRun?: DryRunFindings | undefined;
}

/** A number of requests and their bytes. */
export interface Tally {
  readonly requests: number;
  readonly bytes: number;
}

/** A request below data that was written before. */
export interface BackwardRequest {
  /** The request, for messages. */
  readonly request: string;
  readonly offset: Offset;
  /** Bytes. */
  readonly length: Offset;
  /** How far the data had come by then. */
  readonly head: Offset;
}

/** The requests of the clients in a dry run. */
export interface DryRunFindings {
  /** NBD_CMD_WRITE. */
  readonly writes: Tally;
  /** NBD_CMD_WRITE_ZEROES. */
  readonly zeroes: Tally;
  /** Gaps before WRITEs: neither written nor zeroed until then. */
  readonly gaps: Tally;
  /** Requests below data that was written before, whether they came twice or late. */
  readonly backward: Tally;
  /** The first few of these. */
  readonly places: readonly BackwardRequest[];
  /** The longest way back, in bytes. */
  readonly farthest: Offset;
  /** NBD_CMD_READ. */
  readonly reads: Tally;
  /** READs of data in the window. */
  readonly readsHeld: Tally;
  /** READs of data that had been streamed already. */
  readonly readsBack: Tally;
  readonly flushes: number;
  /** A WRITE has come before the one before it was answered: their order may depend on chance. */
  readonly concurrent: boolean;
  /** Where the stream would end: behind all that was written or zeroed. */
  readonly end: Offset;
  /**
   * The smallest `window=` with which the client would have got the same replies, and the stream would have
   * been complete; how much of it was needed; and the largest such window. Bytes; 0 is none. Undefined if no
   * window suffices.
   */
  readonly window:
    { readonly size: number; readonly needed: number; readonly largest: number } | undefined;
  /** The same for a `spool=`, and the most bytes that were ahead of their turn at once. */
  readonly spool: { readonly needed: number } | undefined;
  /**
   * A larger window, or a spool, would have given the client other replies, after which it may have gone on in
   * another way.
   */
  readonly undecided: boolean;
  /** The client scatters its data over more places than are tracked in windows; larger ones may suffice. */
  readonly scattered: boolean;
  /** Bytes on the disk that the data took at most; only of a dry run with `hold`. */
  readonly held?: number;
}
