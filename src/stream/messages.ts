/** What the main thread and the stream thread say to each other. Plain data only. */
import type { MessagePort } from "node:worker_threads";
import type { ChecksumAlgorithm } from "../endpoint/checksum-sink.ts";
import type { SinkSpec } from "../endpoint/spec.ts";
import type { Failure } from "./failure.ts";

/** What the stream thread is started with. */
export interface StreamThreadData {
  readonly port: MessagePort;
  /** An eventfd that the main thread signals after it has posted a {@link Command}. */
  readonly wakeFd: number;
  /** Shared memory of `Counters`. */
  readonly counters: SharedArrayBuffer;
  readonly sink: SinkSpec;
  /** The stream's length in bytes. */
  readonly size: bigint;
  /** Bytes that may be held ahead of the head; 0 is none. */
  readonly window: number;
  /** Clients whose connection is lost may come back and go on. */
  readonly reconnect: boolean;
  readonly checksum: ChecksumAlgorithm | undefined;
}

/** From the main thread. */
export type Command =
  /** A client has finished negotiation. The stream thread owns `fd` from now on. */
  | {
      readonly type: "connection";
      readonly id: number;
      readonly fd: number;
      /** What the client sent early: the start of its first requests. */
      readonly leftover: Uint8Array;
    }
  /** No client is to be waited for longer than `idle` milliseconds without a word from it. */
  | { readonly type: "last-words"; readonly idle: number }
  /** No client that was lost comes back any more. */
  | { readonly type: "give-up" }
  /** All clients are gone and all is well: emit what is pending. */
  | { readonly type: "finish"; readonly short: ShortStream }
  /** Answer with the event of this name, after all that has happened before. */
  | { readonly type: "echo" }
  /** Stop at once; nothing more is emitted. */
  | { readonly type: "abort" };

/**
 * What a stream is whose end is below its size: lengthened with zeroes, complete as it is, or
 * truncated.
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
  /** What the client sent is not NBD. */
  | "garbage"
  /** The client was still connected, and silent, when its time was up. */
  | "left-behind";

/** From the stream thread. */
export type StreamEvent =
  | { readonly type: "sink-open" }
  | {
      readonly type: "closed";
      readonly id: number;
      readonly end: ConnectionEnd;
      /** True when the client sent data, not just questions. */
      readonly wrote: boolean;
      /** Another client that sent data is connected. */
      readonly succeeded: boolean;
    }
  /** After a client was lost, one has sent data again. */
  | { readonly type: "resumed" }
  /** The stream is broken for good. Sent once. */
  | { readonly type: "broken"; readonly failure: Failure }
  /** A WRITE or WRITE_ZEROES was refused with an `NBD_E*` value; the stream lacks what it held. */
  | { readonly type: "refused"; readonly request: string; readonly error: number }
  /** A client wanted to read what has gone by. Sent once. */
  | { readonly type: "read-back"; readonly request: string }
  /** The answer to the command of this name. */
  | { readonly type: "echo" }
  /** The last event: the sink is closed. */
  | {
      readonly type: "ended";
      /** How far ahead of the head data was held at the most, in bytes. */
      readonly windowNeeded: number;
      /** The checksum of what was emitted, in hex, if one was asked for. */
      readonly checksum: string | undefined;
    };
