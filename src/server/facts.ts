/** What has happened to a stream, and the one place that decides what it adds up to. */
import { NBD_ENOSPC } from "../protocol/constants.ts";
import type { Failure } from "../stream/failure.ts";

/** What the main thread has heard so far. */
export interface Facts {
  /** The stream is broken for good. */
  failure: Failure | undefined;
  /** The stream thread died of a fault in the program. */
  crash: Error | undefined;
  /** The first WRITE or WRITE_ZEROES that was refused, and the `NBD_E*` value that it got. */
  refused: { readonly request: string; readonly error: number } | undefined;
  /** The first request to read what had gone by, and what to do about it. */
  readBack: string | undefined;
  /** A client has reached the transmission phase. */
  connected: boolean;
  /** A client that moved the stream has left. */
  streamed: boolean;
  /** A client that moved the stream has left without NBD_CMD_DISC. */
  dropped: boolean;
  /** A client that has not moved the stream, or not yet, has left without a word. */
  abandoned: boolean;
  /** A client that moved the stream was lost, and may still come back. */
  awaited: boolean;
  /** What was left, in words, when the command had ended and nothing happened any more. */
  leftBehind: string | undefined;
  /** The source was read to its end. */
  sourceEnded: boolean;
  /** The stream thread is done. */
  ended: boolean;
}

/** What there is at the start. */
export function noFacts(): Facts {
  return {
    failure: undefined,
    crash: undefined,
    refused: undefined,
    readBack: undefined,
    connected: false,
    streamed: false,
    dropped: false,
    abandoned: false,
    awaited: false,
    leftBehind: undefined,
    sourceEnded: false,
    ended: false,
  };
}

/**
 * Why a captive command has failed, as far as the stream knows.
 *
 * @param failed that it has, and how
 * @param remedy what to do where the stream is not why
 */
export function commandFailure(facts: Facts, failed: string, remedy: string): string {
  if (facts.failure !== undefined) return facts.failure.message;
  if (facts.refused !== undefined) return refusal(facts.refused, undefined);
  return facts.readBack === undefined
    ? `${failed}: ${remedy}`
    : `${failed}, after ${facts.readBack}`;
}

/** Who says that the data is all there. */
export type Judge =
  /** The clients, by NBD_CMD_DISC. */
  | "clients"
  /** The captive command, by exiting with status 0. */
  | "command";

/**
 * Why the stream cannot be called complete, as things stand; undefined when it can.
 *
 * @param size the stream's length, for the message
 */
export function shortcoming(
  facts: Facts,
  judge: Judge,
  size: bigint | undefined,
): string | undefined {
  if (facts.crash !== undefined) return facts.crash.message;
  if (facts.failure !== undefined) return facts.failure.message;
  if (facts.refused !== undefined) return refusal(facts.refused, size);
  if (facts.leftBehind !== undefined) return facts.leftBehind;
  // A command may hide that its client has died, before it had even begun perhaps.
  const diedEarly = judge === "command" && facts.abandoned && !facts.streamed;
  if (facts.dropped || diedEarly) {
    return "a client left without NBD_CMD_DISC: see why it died, and start again";
  }
  if (judge === "command" && !facts.connected) {
    return "the command has ended without connecting: pass it $nbd (or $uri), in single quotes";
  }
  return undefined;
}

function refusal(
  { request, error }: NonNullable<Facts["refused"]>,
  size: bigint | undefined,
): string {
  if (error !== NBD_ENOSPC) return `${request} was refused: it has flags that were not negotiated`;
  const end = size === undefined ? "size=" : `size=${size}`;
  return `${request} goes past the end: ${end} is too small for the client's disk`;
}
