/** The requests to a stream that is written, except WRITE. */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_OK,
} from "../../protocol/constants.ts";
import { add, min } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Mover } from "../reconnect.ts";
import { SPOOL_UNREADABLE, STREAMED_ALREADY } from "../replies.ts";
import type { WriteState } from "./write-state.ts";

/**
 * Serves the current request, whose header has been consumed; not a WRITE.
 *
 * @param by the handler whose request it is
 * @returns true when it has moved the stream
 */
export function serveOther(channel: Channel, stream: WriteState, by: Mover): boolean {
  switch (channel.request.type) {
    case NBD_CMD_READ:
      read(channel, stream);
      return false;
    case NBD_CMD_WRITE_ZEROES:
      return zero(channel, stream, by);
    case NBD_CMD_FLUSH:
      channel.reply(flush(channel, stream));
      return false;
    case NBD_CMD_BLOCK_STATUS: {
      const { rule } = stream;
      // Below the head all is data; ahead of it there are zeroes, except for the data in the window.
      channel.replyBlockStatus(rule.advertised, stream.fua, (offset) => rule.dataAt(offset));
      return false;
    }
    default:
      channel.reply(NBD_EINVAL);
      return false;
  }
}

function read(channel: Channel, stream: WriteState): void {
  const { request, replies } = channel;
  const { offset, length } = request;
  const { rule, fua } = stream;
  // A READ has nothing to do with FUA, but only flags that were offered are valid.
  const valid = channel.isValidRead && channel.allows(~NBD_CMD_FLAG_FUA | fua);
  const error = valid ? rule.read(offset, length) : NBD_EINVAL;
  if (error === NBD_OK) {
    let held: Uint8Array | undefined;
    const failure = stream.spooling(() => {
      held = rule.window?.read(offset, Number(length));
    });
    if (failure === undefined) channel.replyRead(held);
    else replies.refuse(request, NBD_EIO, SPOOL_UNREADABLE);
  } else if (error === NBD_EIO) {
    stream.readBack(request);
    replies.refuse(request, error, STREAMED_ALREADY);
  } else {
    replies.refuseInvalid(request);
  }
}

function flush(channel: Channel, { fua, failure }: WriteState): number {
  if (fua === 0 || !channel.allows(fua)) return NBD_EINVAL;
  return failure?.errno ?? NBD_OK;
}

/** @returns true when it has moved the stream */
function zero(channel: Channel, stream: WriteState, by: Mover): boolean {
  const { request } = channel;
  const { offset, length } = request;
  const { rule, failure } = stream;
  if (stream.overtakes(by, offset, add(offset, length))) return false;
  let error = failure?.errno ?? NBD_OK;
  let moved = false;
  if (error === NBD_OK) {
    if (!channel.allows(stream.fua | NBD_CMD_FLAG_NO_HOLE)) error = NBD_EINVAL;
    else if (length > 0) error = zeroBy(stream, () => rule.zero(offset, length));
    if (error === NBD_EIO && repeatsZeroes(channel, stream, by)) {
      error = zeroBy(stream, () => rule.zero(offset, length, true));
    }
    if (channel.replaced) return false;
    if (error !== NBD_OK && stream.failure === undefined) stream.refuse(request, error);
    moved = error === NBD_OK && length > 0 && stream.countsZeroes(add(offset, length));
    if (moved) stream.reconnects?.moved(by);
  }
  channel.reply(error);
  return moved;
}

/** The result of `SequentialRule.zero`, or the error of a spool that has failed. */
function zeroBy(stream: WriteState, judge: () => number): number {
  let error = NBD_OK;
  const failure = stream.spooling(() => {
    error = judge();
  });
  return failure?.errno ?? error;
}

/** True when the current WRITE_ZEROES may be a repeat, and the stream has only zeroes there. */
function repeatsZeroes(channel: Channel, stream: WriteState, by: Mover): boolean {
  const { offset, length } = channel.request;
  const { sent, rule } = stream;
  if (sent === undefined || !stream.mayRepeat(by, offset, false)) return false;
  return sent.isZero(offset, min(add(offset, length), rule.head));
}
