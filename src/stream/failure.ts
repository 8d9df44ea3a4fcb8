/** Why a stream is broken: stable codes, what a client is told, and the line for the user. */
import { ERRNO } from "../../ffi/constants.ts";
import type { EndpointError } from "../endpoint/error.ts";
import type { Direction } from "../endpoint/spec.ts";
import { commandName, NBD_EIO, NBD_ENOSPC, NBD_ESHUTDOWN } from "../protocol/constants.ts";
import type { Offset } from "../protocol/offset.ts";
import type { Request } from "../protocol/request.ts";
import { formatSize, LARGEST_WINDOW, LEAST_WINDOW } from "../size.ts";

/** Codes that do not change between releases. */
export type FailureCode =
  /** A client wrote below the head. */
  | "BACKWARD_WRITE"
  /** A client wanted to read what has gone by. */
  | "BACKWARD_READ"
  /** The clients have finished before the stream's size was reached. */
  | "TOO_SHORT"
  /** The source has ended before the stream's size was reached. */
  | "SOURCE_ENDED"
  /** The source could not be read, or the command that gives it has failed. */
  | "SOURCE_FAILED"
  /** The source has more than the stream's size. */
  | "SURPLUS"
  /** Nobody has opened the other end of the pipe in time. */
  | "NO_READER"
  | "NO_WRITER"
  /** A client's connection ended in the middle of a WRITE. */
  | "CLIENT_CUT"
  /** The reader closed its end before it had everything. */
  | "READER_GONE"
  /** The sink has no room left. */
  | "SINK_FULL"
  /** Another stream goes to the same pipe. */
  | "SINK_TAKEN"
  /** The sink failed in another way. */
  | "SINK_FAILED";

/** A stream that is broken for good. Plain data: it crosses from thread to thread. */
export interface Failure {
  readonly code: FailureCode;
  /** `NBD_E*`, the answer to every later READ, or to every later WRITE, WRITE_ZEROES and FLUSH. */
  readonly errno: number;
  /** What happened, where the stream stood, and what to do, in one line. */
  readonly message: string;
}

/**
 * A request below the head.
 *
 * @param needed the window, in bytes, in which it would have been in time; undefined is none
 */
export function backwardWrite(request: Request, head: Offset, needed: Offset | undefined): Failure {
  const behind = `${describe(request)} lies behind the stream, which has reached byte ${head}`;
  const message =
    needed === undefined
      ? `${behind}: the client writes again what is out, for which no window= has room; ${IN_A_FILE}`
      : `${behind}: the client does not write from start to end; ${windowFor(needed)}, ` +
        "or see that it writes in order (qemu-img without -W, nbdcopy --synchronous)";
  return { code: "BACKWARD_WRITE", errno: NBD_EIO, message };
}

/**
 * A request to read back what is out, for the case that its client fails for that.
 *
 * @param needed as of {@link backwardWrite}
 */
export function readBack(request: Request, needed: Offset | undefined): string {
  const remedy =
    needed === undefined ? `no window= keeps that; ${IN_A_FILE}` : `${windowFor(needed)}`;
  return `${describe(request)}, which had gone by: ${remedy}`;
}

/** What to do about a client that needs more of its disk than a stream has. */
const IN_A_FILE =
  "have it write raw data in order (-O raw), or into a file, and stream that afterwards";

/** @param needed bytes, or less: only so much lies between */
function windowFor(needed: Offset): string {
  return needed <= LARGEST_ADVICE
    ? `window=${windowAdvice(Math.max(4 * Number(needed), LEAST_WINDOW))} has room for this`
    : `window=${formatSize(LARGEST_WINDOW)}, the largest, may have room for this`;
}

/**
 * A request to read what has gone by.
 *
 * @param needed the window, in bytes, in which it would have been in time
 */
export function backwardRead(request: Request, head: Offset, needed: Offset): Failure {
  const remedy =
    needed <= LARGEST_ADVICE
      ? `window=${windowAdvice(Number(needed))} would have kept this`
      : "copy the stream into a file first";
  return {
    code: "BACKWARD_READ",
    errno: NBD_EIO,
    message:
      `${describe(request)} lies behind the stream, which has reached byte ${head}: the client ` +
      `does not read from start to end; ${remedy}`,
  };
}

/** A source that has ended before a client had what it wanted. @param size undefined if not known */
export function sourceEnded(source: string, end: Offset, size: Offset | undefined): Failure {
  return {
    code: "SOURCE_ENDED",
    errno: NBD_EIO,
    message:
      size === undefined
        ? `${source} ended at byte ${end}, and the client wants more: give size=${end} if that is all`
        : `${source} ended at byte ${end} of size=${size}: see whether its writer has failed; ` +
          "if the rest is to be zeroes, use --pad",
  };
}

/** A source that cannot be read. @param what has happened, in words */
export function sourceFailed(what: string, taken: Offset): Failure {
  return {
    code: "SOURCE_FAILED",
    errno: NBD_EIO,
    message: `${what}, with the stream at byte ${taken}: see why, and start again`,
  };
}

/** A source that is longer than the stream, when it must not be. @param surplus bytes, at least */
export function surplusFound(source: string, surplus: number, size: Offset): Failure {
  return {
    code: "SURPLUS",
    errno: NBD_EIO,
    message:
      `${source} has at least ${surplus} bytes more than size=${size}, and --exact forbids that: ` +
      "is the size right?",
  };
}

/** A stream of which clients have read only a part. */
export function unread(head: Offset, size: Offset): Failure {
  return {
    code: "TOO_SHORT",
    errno: NBD_EIO,
    message:
      `the clients have read up to byte ${head} of size=${size}: see whether one has failed; ` +
      "if a part is enough, use --no-pad",
  };
}

/** What is further back than this may need less, as a client can leave out most of what lies between. */
const LARGEST_ADVICE = 4 * 2 ** 30;

/** The next power of two from 1M on, as `window=` takes it: what came next may need a bit more. */
function windowAdvice(needed: number): string {
  let mebibytes = 1;
  while (mebibytes * 2 ** 20 < needed) mebibytes *= 2;
  return `${mebibytes}M`;
}

/** A connection that ended with `missing` bytes of a WRITE still to come, or before it was out. */
export function clientCut(request: Request, missing: number, emitted: number): Failure {
  const when =
    missing > 0 ? `${missing} bytes before the end of` : "before the stream had taken all of";
  return {
    code: "CLIENT_CUT",
    errno: NBD_EIO,
    message:
      `the client's connection ended ${when} ${describe(request)}, ` +
      `with the stream at byte ${emitted}: see why the client died, and start again`,
  };
}

/** What the kernel says of a pipe or socket that nobody reads any more. */
const GONE = new Set<number>([ERRNO.EPIPE, ERRNO.ECONNRESET, ERRNO.ENOTCONN, ERRNO.ENXIO]);

/** A call on the sink that failed. */
export function sinkFailed(sink: string, error: EndpointError, emitted: number): Failure {
  const { errno, message, syscall } = error.cause;
  if (GONE.has(errno)) return readerGone(sink, emitted);
  if (syscall === "flock") return sinkTaken(sink);
  const full = errno === ERRNO.ENOSPC || errno === ERRNO.EDQUOT || errno === ERRNO.EFBIG;
  return {
    code: full ? "SINK_FULL" : "SINK_FAILED",
    errno: full ? NBD_ENOSPC : NBD_ESHUTDOWN,
    message: `${sink} failed with the stream at byte ${emitted}: ${message}`,
  };
}

/** A named pipe that another stream goes to: its reader would get both, mixed. */
function sinkTaken(sink: string): Failure {
  return {
    code: "SINK_TAKEN",
    errno: NBD_ESHUTDOWN,
    message: `another nbd-streaming writes to ${sink}: name a pipe of its own for each stream`,
  };
}

/** A reader that went away. @param behind bytes that it left in the pipe, where that is known */
export function readerGone(sink: string, emitted: number, behind = 0): Failure {
  const left = behind > 0 ? `, ${behind} bytes of it unread` : "";
  return {
    code: "READER_GONE",
    errno: NBD_ESHUTDOWN,
    message:
      `the reader of ${sink} went away with the stream at byte ${emitted}${left}: ` +
      "see why it ended, and start again",
  };
}

/** The other end has not come. @param seconds how long it was waited for */
export function nobodyCame(direction: Direction, name: string, seconds: number): Failure {
  const [code, use, who] =
    direction === "write"
      ? (["NO_READER", "reading", "reader"] as const)
      : (["NO_WRITER", "writing", "writer"] as const);
  return {
    code,
    errno: NBD_ESHUTDOWN,
    message: `nobody has opened ${name} for ${use} in ${seconds} s: start its ${who} first`,
  };
}

/** A stream whose clients have finished at `end`, short of its size. */
export function tooShort(end: Offset, size: Offset): Failure {
  return {
    code: "TOO_SHORT",
    errno: NBD_EIO,
    message:
      `the clients have finished at byte ${end} of size=${size}: see whether one has failed; ` +
      "if they leave out zeroes at the end, use --pad",
  };
}

/** A request as it stands in messages. */
export function describe(request: Request): string {
  return `${commandName(request.type)} of ${request.length} bytes at ${request.offset}`;
}
