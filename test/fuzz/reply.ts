/**
 * The next reply of a server, whatever it answers, held to the specification. It has nothing in common with
 * test/support/replies.ts on purpose: what one of them reads wrongly is not wrong in the other, too.
 */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol/constants.ts";
import type { Found } from "./requests.ts";
import { require } from "./require.ts";

export interface Taken {
  readonly request: Found;
  /** `NBD_E*`, or 0. */
  readonly error: number;
  /** What a READ got. */
  readonly data: Buffer;
}

/** @param bytes that many of the connection's next, or undefined when no more come */
export type Take = (bytes: number) => Buffer | undefined;

/** What was negotiated. */
export interface ReplyForm {
  readonly structured: boolean;
  readonly extended: boolean;
}

/** Errors that may be on the wire ("Error values"). */
const ERRORS = [0, 1, 5, 12, 22, 28, 75, 95, 108];

/**
 * Takes a whole reply, to one of `pending`, and removes that.
 *
 * @param fits which errors a request may have, where several have the same cookie
 * @returns undefined when no more come
 */
export function takeReply(
  take: Take,
  pending: Found[],
  { structured, extended }: ReplyForm,
  fits: (request: Found, error: number) => boolean = () => true,
): Taken | undefined {
  const magic = take(4)?.readUInt32BE(0);
  if (magic === undefined) return undefined;
  if (extended) {
    require(magic === NBD_EXTENDED_REPLY_MAGIC, () =>
      `a chunk begins with 0x${magic.toString(16)}`);
    return chunks(take, pending, true, fits);
  }
  if (magic === NBD_STRUCTURED_REPLY_MAGIC && structured) return chunks(take, pending, false, fits);
  require(magic === NBD_SIMPLE_REPLY_MAGIC, () => `a reply begins with 0x${magic.toString(16)}`);
  const rest = take(12);
  if (rest === undefined) return undefined;
  const error = rest.readUInt32BE(0);
  require(ERRORS.includes(error), `error ${error} is not one for the wire`);
  const cookie = rest.readBigUInt64BE(4);
  const isChunked = ({ type }: Found) => type === NBD_CMD_READ || type === NBD_CMD_BLOCK_STATUS;
  const isCandidate = (one: Found) => one.cookie === cookie && !(structured && isChunked(one));
  const candidates = pending.filter(isCandidate);
  const request = candidates.find((one) => fits(one, error)) ?? candidates[0];
  require(request !== undefined, `a simple reply with error ${error} to nothing (${cookie})`);
  const length = error === 0 && request.type === NBD_CMD_READ ? request.length : 0;
  const data = length === 0 ? Buffer.alloc(0) : take(length);
  if (data === undefined) return undefined;
  pending.splice(pending.indexOf(request), 1);
  return { request, error, data };
}

function chunks(
  take: Take,
  pending: Found[],
  extended: boolean,
  fits: (request: Found, error: number) => boolean,
): Taken | undefined {
  const magic = extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC;
  const status = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
  let request: Found | undefined;
  let data = Buffer.alloc(0);
  let covered = 0;
  for (let first = true; ; first = false) {
    if (!first && take(4)?.readUInt32BE(0) !== magic) return undefined;
    const rest = take(extended ? 28 : 16);
    if (rest === undefined) return undefined;
    const [flags, type] = [rest.readUInt16BE(0), rest.readUInt16BE(2)];
    const cookie = rest.readBigUInt64BE(4);
    const offset = extended ? Number(rest.readBigUInt64BE(12)) : undefined;
    const length = extended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    const payload = take(length);
    if (payload === undefined) return undefined;
    const error = type === NBD_REPLY_TYPE_ERROR ? payload.readUInt32BE(0) : 0;
    const isCandidate = (one: Found) =>
      one.cookie === cookie &&
      (offset === undefined || one.offset === offset) &&
      mayHave(one, type, status, extended);
    if (request === undefined) {
      const candidates = pending.filter(isCandidate);
      request = candidates.find((one) => fits(one, error)) ?? candidates[0];
    }
    require(request !== undefined && isCandidate(request), `a chunk to nothing (${cookie})`);
    require((flags & ~NBD_REPLY_FLAG_DONE) === 0, `chunk flags ${flags}`);
    const done = flags === NBD_REPLY_FLAG_DONE;
    if (type === NBD_REPLY_TYPE_ERROR) {
      require(done && ERRORS.includes(error) && error !== 0, `an error chunk with ${error}`);
      require(payload.readUInt16BE(4) === length - 6 && length - 6 <= 4096, "one text");
      pending.splice(pending.indexOf(request), 1);
      return { request, error, data: data.subarray(0, covered) };
    }
    if (covered === 0 && request.type === NBD_CMD_READ) data = Buffer.alloc(request.length);
    if (type === status) expectExtent(request, payload, extended);
    else covered += cover(request, type, payload, data, covered);
    if (!done) continue;
    require(covered === data.length, `${covered} of ${data.length} bytes of a READ`);
    pending.splice(pending.indexOf(request), 1);
    return { request, error: 0, data };
  }
}

/** True when a request may be answered with a chunk of this type. @param status that of a block status */
function mayHave({ type }: Found, chunk: number, status: number, extended: boolean): boolean {
  const isBlockStatus = type === NBD_CMD_BLOCK_STATUS;
  if (chunk === status) return isBlockStatus;
  if (chunk === NBD_REPLY_TYPE_ERROR) return extended || isBlockStatus || type === NBD_CMD_READ;
  if (chunk === NBD_REPLY_TYPE_NONE && extended) return !isBlockStatus;
  return type === NBD_CMD_READ;
}

/** Puts a chunk's part to its place: this server sends them in order. @returns its length */
function cover(
  request: Found,
  type: number,
  payload: Buffer,
  data: Buffer,
  covered: number,
): number {
  if (type === NBD_REPLY_TYPE_NONE) {
    require(payload.length === 0, "bytes in NBD_REPLY_TYPE_NONE");
    return 0;
  }
  const isHole = type === NBD_REPLY_TYPE_OFFSET_HOLE;
  require(isHole || type === NBD_REPLY_TYPE_OFFSET_DATA, `a chunk of type ${type}`);
  require(payload.length > 8, "a chunk without data");
  require(Number(payload.readBigUInt64BE(0)) === request.offset + covered, "chunks out of order");
  const part = isHole ? payload.readUInt32BE(8) : payload.length - 8;
  require(part > 0 && covered + part <= request.length, "more than was asked for");
  if (!isHole) payload.copy(data, covered, 8);
  return part;
}

function expectExtent({ length }: Found, payload: Buffer, extended: boolean): void {
  const size = extended ? 8 + 16 : 4 + 8;
  require(payload.length === size && payload.readUInt32BE(0) === 1, "one extent of one context");
  if (extended) require(payload.readUInt32BE(4) === 1, "a number of extents that is not theirs");
  const part = extended ? Number(payload.readBigUInt64BE(8)) : payload.readUInt32BE(4);
  require(part > 0 && part <= length, `an extent of ${part} bytes for ${length}`);
  const state = extended ? Number(payload.readBigUInt64BE(16)) : payload.readUInt32BE(8);
  require([0, 3].includes(state), "a state of data, or of zeroes");
}
