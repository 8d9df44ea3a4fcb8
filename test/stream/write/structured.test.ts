import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_OK,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from "../../../src/protocol/constants.ts";
import { encodeAsked, takeAnswer, takeStatus } from "../../support/answer.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import type { Peer } from "../../support/peer.ts";
import type { Asked } from "../../support/replies.ts";
import { ask, StreamFixture, type StreamOptions } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const HOLE = NBD_STATE_HOLE | NBD_STATE_ZERO;

function open(options: StreamOptions = {}): StreamFixture {
  const stream = new StreamFixture(options);
  stream.negotiated = { structured: true, allocation: true };
  return stream;
}

function read(
  stream: StreamFixture,
  peer: Peer,
  offset: number,
  length: number,
  { flags = 0 } = {},
) {
  const asked: Asked = { cookie: 77n, offset, length, flags, structured: true };
  peer.send(encodeAsked(asked));
  return takeAnswer(stream, peer, asked);
}

/** Asks for the block status. @returns the extents, or the error */
function status(
  stream: StreamFixture,
  peer: Peer,
  offset: number,
  length: number,
  { flags = 0 } = {},
) {
  peer.send(encodeRequest(NBD_CMD_BLOCK_STATUS, offset, length, { flags }));
  return takeStatus(stream, peer, { offset, cookie: 1n });
}

describe("a READ", () => {
  test.each([1, 4096, 32 * MIB])("of %d bytes that are not written yet is a hole", (length) => {
    using stream = open();
    const peer = stream.connect();
    const { chunks, data } = read(stream, peer, 1000, length);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length }]);
    expect(data.equals(Buffer.alloc(length))).toBeTrue();
    expect(read(stream, peer, 1000, length, { flags: NBD_CMD_FLAG_DF }).chunks.length).toBe(1);
  });

  test("of what has been streamed is an error chunk that says so", () => {
    using stream = open();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    const { error, message } = read(stream, peer, 0, 3);
    expect([error, message]).toEqual([NBD_EIO, "it has been streamed already"]);
    expect(read(stream, peer, 3, 3).error).toBe(NBD_OK);
  });

  test("of what is held in the window is data, with zeroes around it", () => {
    using stream = open({ window: MIB });
    const peer = stream.connect();
    const bytes = pseudoRandom(100_000);
    expect(ask(stream, peer, encodeWrite(200_000, bytes))).toBe(NBD_OK);
    const { chunks, data } = read(stream, peer, 150_000, 200_000);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_DATA, length: 200_000 }]);
    const want = Buffer.concat([Buffer.alloc(50_000), bytes, Buffer.alloc(50_000)]);
    expect(data.equals(want)).toBeTrue();
    const ahead = read(stream, peer, 100_000, 100_000);
    expect(ahead.chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length: 100_000 }]);
  });

  test("past the end, too large or with unknown flags is EINVAL, of nothing nothing", () => {
    using stream = open({ size: 1000 });
    const peer = stream.connect();
    for (const [offset, length, flags] of [
      [1024, 1, 0],
      [0, 1025, 0],
      [0, 32 * MIB + 1, 0],
      [0, 10, NBD_CMD_FLAG_REQ_ONE],
    ] as const) {
      const { error, message } = read(stream, peer, offset, length, { flags });
      expect([error, message]).toEqual([NBD_EINVAL, "the request is not valid"]);
    }
    const { chunks } = read(stream, peer, 0, 0);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_NONE, length: 0 }]);
  });
});

test("what is no READ gets simple replies, in order with the chunks", () => {
  using stream = open();
  const peer = stream.connect();
  const asked: Asked = { cookie: 5n, offset: 10, length: 10, structured: true };
  peer.send(
    encodeWrite(0, Buffer.from("abc")),
    encodeAsked(asked),
    encodeRequest(NBD_CMD_WRITE_ZEROES, 3, 3),
    encodeRequest(NBD_CMD_FLUSH, 0, 0),
  );
  stream.until(() => peer.available >= 16);
  expect(peer.take(16).readUInt32BE(4)).toBe(NBD_OK);
  expect(takeAnswer(stream, peer, asked).data).toEqual(Buffer.alloc(10));
  stream.until(() => peer.available >= 32);
  expect(peer.takeReplies().map(({ error }) => error)).toEqual([NBD_OK, NBD_OK]);
});

describe("block status", () => {
  test.each([
    [true, NBD_CMD_FLAG_FUA, [[MIB, HOLE]]],
    [true, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE, [[MIB, HOLE]]],
    [false, NBD_CMD_FLAG_FUA, NBD_EINVAL],
  ])("may have FUA where it is offered: %p, flags %d", (flushes, flags, want) => {
    using stream = open({ size: MIB, flushes });
    const answer: unknown = status(stream, stream.connect(), 0, MIB, { flags });
    expect(answer).toEqual(want);
  });

  test("is data below the head, and a hole of zeroes ahead of it", () => {
    using stream = open({ size: MIB });
    const peer = stream.connect();
    expect(status(stream, peer, 0, MIB)).toEqual([[MIB, HOLE]]);
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(5000)))).toBe(NBD_OK);
    expect(status(stream, peer, 0, MIB)).toEqual([[5000, 0]]);
    expect(status(stream, peer, 1000, 512)).toEqual([[512, 0]]);
    expect(status(stream, peer, 4999, 512)).toEqual([[1, 0]]);
    expect(status(stream, peer, 5000, 512)).toEqual([[512, HOLE]]);
    const one = { flags: NBD_CMD_FLAG_REQ_ONE };
    expect(status(stream, peer, 0, MIB, one)).toEqual([[5000, 0]]);
  });

  test("knows what is held in the window", () => {
    using stream = open({ size: MIB, window: MIB });
    const peer = stream.connect();
    ask(stream, peer, encodeWrite(1000, pseudoRandom(500)));
    ask(stream, peer, encodeWrite(3000, pseudoRandom(500)));
    expect(status(stream, peer, 0, MIB)).toEqual([[1000, HOLE]]);
    expect(status(stream, peer, 1000, MIB - 1000)).toEqual([[500, 0]]);
    expect(status(stream, peer, 1400, 50)).toEqual([[50, 0]]);
    expect(status(stream, peer, 1500, MIB - 1500)).toEqual([[1500, HOLE]]);
    expect(status(stream, peer, 3500, MIB - 3500)).toEqual([[MIB - 3500, HOLE]]);
  });

  test("takes zeroes that were asked for and not streamed yet for a hole", () => {
    using stream = open({ size: MIB });
    const peer = stream.connect();
    ask(stream, peer, encodeRequest(NBD_CMD_WRITE_ZEROES, 0, 5000));
    expect(status(stream, peer, 0, MIB)).toEqual([[MIB, HOLE]]);
  });

  test("past the end, of nothing, with unknown flags or not negotiated is EINVAL", () => {
    using stream = open({ size: 1000 });
    const peer = stream.connect();
    expect(status(stream, peer, 0, 1024)).toEqual([[1024, HOLE]]);
    expect(status(stream, peer, 0, 1025)).toBe(NBD_EINVAL);
    expect(status(stream, peer, 0, 0)).toBe(NBD_EINVAL);
    expect(status(stream, peer, 0, 512, { flags: NBD_CMD_FLAG_DF })).toBe(NBD_EINVAL);
    stream.negotiated = { structured: true, allocation: false };
    expect(status(stream, stream.connect(), 0, 512)).toBe(NBD_EINVAL);
  });
});
