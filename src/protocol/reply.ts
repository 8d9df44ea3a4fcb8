/**
 * Replies: the simple reply, and the chunks of structured and extended replies (doc/proto.md, "Simple
 * reply message", "Structured reply chunk message", "Extended reply chunk message"). The latter two
 * differ only in the header of a chunk, and the descriptors of a block status.
 *
 * All functions for chunks write at `at` and return the number of bytes written. `extended` is true
 * when extended headers were negotiated.
 */
import {
  NBD_EXTENDED_CHUNK_SIZE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_CHUNK_SIZE,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "./constants.ts";
import { type Offset, writeOffset } from "./offset.ts";

/** Writes the 16 bytes of a simple reply at `at`. @param error an `NBD_E*` value or NBD_OK */
export function encodeSimpleReply(
  view: DataView,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  view.setUint32(at, NBD_SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}

/** The most bytes of text in an error chunk; strings SHOULD be no longer ("Conventions"). */
export const MAX_ERROR_MESSAGE = 256;

/** The longest error chunk in bytes, which is longer than any other chunk without data. */
export const MAX_ERROR_CHUNK_SIZE = NBD_EXTENDED_CHUNK_SIZE + 6 + MAX_ERROR_MESSAGE;

/** The fields of a request that its reply repeats. */
export interface RequestKey {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** For extended headers only. */
  readonly offset: Offset;
}

/** One descriptor of a block status. */
export interface Extent {
  /** Bytes, at least 1; with compact headers at most 2^32 - 1. */
  readonly length: Offset;
  /** `NBD_STATE_*` bits. */
  readonly flags: number;
}

const utf8 = new TextEncoder();

/**
 * Writes the header of a chunk.
 *
 * @param flags NBD_REPLY_FLAG_DONE or 0
 * @param type `NBD_REPLY_TYPE_*`
 * @param length bytes of payload that follow, at most 2^32 - 1
 */
export function encodeChunkHeader(
  view: DataView,
  at: number,
  extended: boolean,
  flags: number,
  type: number,
  { cookieHigh, cookieLow, offset }: RequestKey,
  length: number,
): number {
  view.setUint32(at, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  if (!extended) {
    view.setUint32(at + 16, length);
    return NBD_STRUCTURED_CHUNK_SIZE;
  }
  writeOffset(view, at + 16, offset);
  writeOffset(view, at + 24, length);
  return NBD_EXTENDED_CHUNK_SIZE;
}

/**
 * Writes all of a data chunk but the data.
 *
 * @param offset of the data, from the start of the export
 * @param length bytes of data that follow, from 1 to 2^32 - 9
 */
export function encodeOffsetData(
  view: DataView,
  at: number,
  extended: boolean,
  flags: number,
  key: RequestKey,
  offset: Offset,
  length: number,
): number {
  const type = NBD_REPLY_TYPE_OFFSET_DATA;
  const size = encodeChunkHeader(view, at, extended, flags, type, key, 8 + length);
  writeOffset(view, at + size, offset);
  return size + 8;
}

/**
 * Writes a hole chunk, which stands for zeroes.
 *
 * @param offset of the zeroes, from the start of the export
 * @param length bytes of zeroes, from 1 to 2^32 - 1
 */
export function encodeOffsetHole(
  view: DataView,
  at: number,
  extended: boolean,
  flags: number,
  key: RequestKey,
  offset: Offset,
  length: number,
): number {
  const size = encodeChunkHeader(view, at, extended, flags, NBD_REPLY_TYPE_OFFSET_HOLE, key, 12);
  writeOffset(view, at + size, offset);
  view.setUint32(at + size + 8, length);
  return size + 12;
}

/**
 * Writes an error chunk, which ends a reply. `view` must have room for {@link MAX_ERROR_CHUNK_SIZE}
 * bytes.
 *
 * @param error an `NBD_E*` value; MUST NOT be NBD_OK
 * @param message for the client's user; cut at a character to {@link MAX_ERROR_MESSAGE} bytes of UTF-8
 */
export function encodeErrorChunk(
  view: DataView,
  at: number,
  extended: boolean,
  key: RequestKey,
  error: number,
  message: string,
): number {
  const size = extended ? NBD_EXTENDED_CHUNK_SIZE : NBD_STRUCTURED_CHUNK_SIZE;
  const text = new Uint8Array(view.buffer, view.byteOffset + at + size + 6, MAX_ERROR_MESSAGE);
  const { written } = utf8.encodeInto(message, text);
  const flags = NBD_REPLY_FLAG_DONE;
  encodeChunkHeader(view, at, extended, flags, NBD_REPLY_TYPE_ERROR, key, 6 + written);
  view.setUint32(at + size, error);
  view.setUint16(at + size + 4, written);
  return size + 6 + written;
}

/**
 * Writes the only chunk of a reply to NBD_CMD_BLOCK_STATUS.
 *
 * @param extents at least one, in order; each takes 8 bytes, or 16 with extended headers
 */
export function encodeBlockStatus(
  view: DataView,
  at: number,
  extended: boolean,
  key: RequestKey,
  contextId: number,
  extents: readonly Extent[],
): number {
  const [type, payload] = extended
    ? [NBD_REPLY_TYPE_BLOCK_STATUS_EXT, 8 + 16 * extents.length]
    : [NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * extents.length];
  const size = encodeChunkHeader(view, at, extended, NBD_REPLY_FLAG_DONE, type, key, payload);
  let next = at + size;
  view.setUint32(next, contextId);
  next += 4;
  if (extended) {
    view.setUint32(next, extents.length);
    next += 4;
  }
  for (const { length, flags } of extents) {
    if (extended) {
      writeOffset(view, next, length);
      writeOffset(view, next + 8, flags);
      next += 16;
    } else {
      view.setUint32(next, Number(length));
      view.setUint32(next + 4, flags);
      next += 8;
    }
  }
  return size + payload;
}
