/** The chunks of structured replies (doc/proto.md, "Structured reply chunk message"). */
import {
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_STRUCTURED_CHUNK_SIZE,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "./constants.ts";
import { type Offset, writeOffset } from "./offset.ts";

/** Bytes of what goes before the data of NBD_REPLY_TYPE_OFFSET_DATA: the header and the offset. */
export const OFFSET_DATA_SIZE = NBD_STRUCTURED_CHUNK_SIZE + 8;

/** Bytes of a whole NBD_REPLY_TYPE_OFFSET_HOLE. */
export const OFFSET_HOLE_SIZE = NBD_STRUCTURED_CHUNK_SIZE + 12;

/** Bytes of text in an error chunk; strings SHOULD be no longer ("Conventions"). */
export const MAX_ERROR_MESSAGE = 256;

/** Bytes that an error chunk may need. */
export const MAX_ERROR_CHUNK_SIZE = NBD_STRUCTURED_CHUNK_SIZE + 6 + MAX_ERROR_MESSAGE;

/** One descriptor of NBD_REPLY_TYPE_BLOCK_STATUS. */
export interface Extent {
  /** Bytes, from 1 to 2^32 - 1. */
  readonly length: number;
  /** `NBD_STATE_*` bits. */
  readonly flags: number;
}

const utf8 = new TextEncoder();

/**
 * Writes the 20 bytes of a chunk's header at `at`.
 *
 * @param flags NBD_REPLY_FLAG_DONE or 0
 * @param type `NBD_REPLY_TYPE_*`
 * @param length bytes of payload that follow
 */
export function encodeChunkHeader(
  view: DataView,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  length: number,
): void {
  view.setUint32(at, NBD_STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  view.setUint32(at + 16, length);
}

/**
 * Writes at `at` the {@link OFFSET_DATA_SIZE} bytes that precede data.
 *
 * @param offset of the data, from the start of the export
 * @param length bytes of data that follow, from 1 to 2^32 - 9
 */
export function encodeOffsetData(
  view: DataView,
  at: number,
  flags: number,
  cookieHigh: number,
  cookieLow: number,
  offset: Offset,
  length: number,
): void {
  const payload = 8 + length;
  encodeChunkHeader(view, at, flags, NBD_REPLY_TYPE_OFFSET_DATA, cookieHigh, cookieLow, payload);
  writeOffset(view, at + 20, offset);
}

/**
 * Writes at `at` the {@link OFFSET_HOLE_SIZE} bytes that stand for zeroes.
 *
 * @param offset of the zeroes, from the start of the export
 * @param length bytes of zeroes, from 1 to 2^32 - 1
 */
export function encodeOffsetHole(
  view: DataView,
  at: number,
  flags: number,
  cookieHigh: number,
  cookieLow: number,
  offset: Offset,
  length: number,
): void {
  encodeChunkHeader(view, at, flags, NBD_REPLY_TYPE_OFFSET_HOLE, cookieHigh, cookieLow, 12);
  writeOffset(view, at + 20, offset);
  view.setUint32(at + 28, length);
}

/**
 * Writes at `at` the error that ends a reply. There must be room for {@link MAX_ERROR_CHUNK_SIZE}
 * bytes.
 *
 * @param error an `NBD_E*` value; MUST NOT be NBD_OK
 * @param message for the client's user; cut to {@link MAX_ERROR_MESSAGE} bytes of UTF-8, but never
 *   in the middle of a character
 * @returns bytes written
 */
export function encodeErrorChunk(
  view: DataView,
  at: number,
  cookieHigh: number,
  cookieLow: number,
  error: number,
  message: string,
): number {
  const text = new Uint8Array(view.buffer, view.byteOffset + at + 26, MAX_ERROR_MESSAGE);
  const { written } = utf8.encodeInto(message, text);
  const flags = NBD_REPLY_FLAG_DONE;
  encodeChunkHeader(view, at, flags, NBD_REPLY_TYPE_ERROR, cookieHigh, cookieLow, 6 + written);
  view.setUint32(at + 20, error);
  view.setUint16(at + 24, written);
  return 26 + written;
}

/**
 * Writes at `at` the one chunk of a reply to NBD_CMD_BLOCK_STATUS.
 *
 * @param extents at least one, in order; each takes 8 bytes
 * @returns bytes written
 */
export function encodeBlockStatus(
  view: DataView,
  at: number,
  cookieHigh: number,
  cookieLow: number,
  contextId: number,
  extents: readonly Extent[],
): number {
  const flags = NBD_REPLY_FLAG_DONE;
  const payload = 4 + 8 * extents.length;
  encodeChunkHeader(view, at, flags, NBD_REPLY_TYPE_BLOCK_STATUS, cookieHigh, cookieLow, payload);
  view.setUint32(at + 20, contextId);
  let next = at + 24;
  for (const { length, flags: status } of extents) {
    view.setUint32(next, length);
    view.setUint32(next + 4, status);
    next += 8;
  }
  return next - at;
}
