/** Why a stream is broken, as data: `src/messages/` has the texts. */
import { ERRNO } from "../../ffi/constants.ts";
import { isFull } from "../../ffi/errno.ts";
import type { EndpointError } from "../endpoint/error.ts";
import type { Direction } from "../endpoint/spec.ts";
import type { Failure, ReadBack } from "../messages/notice.ts";
import { commandName, NBD_EIO, NBD_ENOSPC, NBD_ESHUTDOWN } from "../protocol/constants.ts";
import type { Offset } from "../protocol/offset.ts";
import type { Request } from "../protocol/request.ts";
import type { Counters } from "./counters.ts";
import type { SpoolFile } from "./spool-file.ts";

/** A request below the head. @param needed the window, in bytes, that suffices; undefined is none */
export function backwardWrite(request: Request, head: Offset, needed: Offset | undefined): Failure {
  return { code: "BACKWARD_WRITE", errno: NBD_EIO, request: describe(request), head, needed };
}

/** A READ below the head, because of which its client may fail. @param needed as {@link backwardWrite} */
export function readBack(request: Request, needed: Offset | undefined): ReadBack {
  return { request: describe(request), needed };
}

/** A READ below the head in a stream that is read. @param needed the window, in bytes, that suffices */
export function backwardRead(request: Request, head: Offset, needed: Offset): Failure {
  return { code: "BACKWARD_READ", errno: NBD_EIO, request: describe(request), head, needed };
}

/** A source that has ended before a client had what it wanted. @param size undefined if not known */
export function sourceEnded(source: string, end: Offset, size: Offset | undefined): Failure {
  return { code: "SOURCE_ENDED", errno: NBD_EIO, source, end, size };
}

/** A source that cannot be read. @param what a text for the user */
export function sourceFailed(what: string, taken: Offset): Failure {
  return { code: "SOURCE_FAILED", errno: NBD_EIO, what, taken };
}

/** A source that is longer than the stream, when it must not be. @param surplus bytes, at least */
export function surplusFound(source: string, surplus: number, size: Offset): Failure {
  return { code: "SURPLUS", errno: NBD_EIO, source, surplus, size };
}

/** A stream whose clients have finished at `end`, short of its size. */
export function tooShort(direction: Direction, end: Offset, size: Offset): Failure {
  return { code: "TOO_SHORT", errno: NBD_EIO, direction, end, size };
}

/** A connection that ended with `missing` bytes of a WRITE still to come, or before it was out. */
export function clientCut(request: Request, missing: number, emitted: number): Failure {
  return { code: "CLIENT_CUT", errno: NBD_EIO, request: describe(request), missing, emitted };
}

/** The errors of a pipe or socket without a reader. */
const GONE = new Set<number>([ERRNO.EPIPE, ERRNO.ECONNRESET, ERRNO.ENOTCONN, ERRNO.ENXIO]);

/** A system call on the sink that failed. */
export function sinkFailed(sink: string, error: EndpointError, emitted: number): Failure {
  const { errno, message: why, syscall } = error.cause;
  if (GONE.has(errno)) return readerGone(sink, emitted);
  // Another stream goes to the same named pipe, whose reader would get a mixture of both.
  if (syscall === "flock") return { code: "SINK_TAKEN", errno: NBD_ESHUTDOWN, sink };
  return isFull(errno)
    ? { code: "SINK_FULL", errno: NBD_ENOSPC, sink, why, emitted }
    : { code: "SINK_FAILED", errno: NBD_ESHUTDOWN, sink, why, emitted };
}

/** The spool that failed. */
export function spoolFailed(spool: SpoolFile, error: EndpointError, counters: Counters): Failure {
  const { errno, message: why } = error.cause;
  // A file system that takes no longer files may have room for any number of shorter ones.
  const lacks = errno === ERRNO.EFBIG ? "length" : isFull(errno) ? "room" : undefined;
  spool.measure();
  const { spooled, emitted } = counters;
  const facts = { folder: spool.folder, why, lacks, spooled, emitted } as const;
  return { code: "SPOOL_FAILED", errno: lacks === undefined ? NBD_EIO : NBD_ENOSPC, ...facts };
}

/** A disk that a program has made longer than the stream is to be, by its path. */
export function spoolTooLong(length: Offset, size: Offset): Failure {
  return { code: "SPOOL_TOO_LONG", errno: NBD_ENOSPC, length, size };
}

/** A reader that went away. @param unread bytes that it left in the pipe, if that is known */
export function readerGone(sink: string, emitted: number, unread = 0): Failure {
  return { code: "READER_GONE", errno: NBD_ESHUTDOWN, sink, emitted, unread };
}

/** The other end of the pipe was not opened. @param seconds the time that it had */
export function nobodyCame(direction: Direction, pipe: string, seconds: number): Failure {
  const code = direction === "write" ? "NO_READER" : "NO_WRITER";
  return { code, errno: NBD_ESHUTDOWN, pipe, seconds };
}

/** A request as it stands in messages. */
export function describe(request: Request): string {
  return `${commandName(request.type)} of ${request.length} bytes at ${request.offset}`;
}
