/** A stream that is read by clients with extended headers; their data is in data.test.ts. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_EPERM,
  NBD_OK,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from "../../../src/protocol/constants.ts";
import type { Offset } from "../../../src/protocol/offset.ts";
import { takeAnswer, takeStatus } from "../../support/answer.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import {
  encodeExtended,
  encodeExtendedWrite,
  encodeRequest,
  encodeWithPayload,
} from "../../support/wire.ts";
import type { Peer } from "../../support/peer.ts";
import { ReadFixture, type ReadOptions } from "../../support/read-stream.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const disk = pseudoRandom(3 * MIB);

function open(bytes: Uint8Array, options: ReadOptions = {}): { stream: ReadFixture; peer: Peer } {
  const stream = ReadFixture.of(bytes, options);
  stream.negotiated = { extended: true, allocation: true };
  return { stream, peer: stream.connect() };
}

/** Sends what gives nothing back. @returns the answer, which is held to the specification */
function ask(stream: ReadFixture, peer: Peer, request: Buffer) {
  peer.send(request);
  const cookie = request.readBigUInt64BE(8);
  const offset = request.readBigUInt64BE(16);
  return takeAnswer(stream, peer, { cookie, offset, length: 0, structured: true, extended: true });
}

/** Asks for the block status. @returns the extents, or the error */
function status(stream: ReadFixture, peer: Peer, offset: Offset, length: Offset, flags = 0) {
  peer.send(encodeExtended(NBD_CMD_BLOCK_STATUS, offset, length, { flags, cookie: 9n }));
  return takeStatus(stream, peer, { offset, cookie: 9n });
}

describe("a READ", () => {
  test("past the end or too large is EINVAL, however many bits its length has", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    for (const [offset, length] of [
      [disk.length, 1],
      [0, 32 * MIB + 1],
      [0, 2 ** 32],
      [0, 2n ** 32n + 512n],
      [0, 2n ** 64n - 1n],
      [2n ** 64n - 1n, 1],
      [512, 2n ** 64n - 512n],
    ] as const) {
      const { error, message } = ask(stream, peer, encodeExtended(NBD_CMD_READ, offset, length));
      expect([error, message]).toEqual([NBD_EINVAL, "the request is not valid"]);
    }
    expect(stream.counters.emitted).toBe(0);
    expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
  });

  test("of nothing is answered with nothing", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    const nothing = { type: NBD_REPLY_TYPE_NONE, length: 0 };
    expect(stream.read(peer, 5, 0).chunks).toEqual([nothing]);
  });

  test("that must not be fragmented is one chunk", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    stream.piece = 70_000;
    const { chunks, data } = stream.read(peer, 0, disk.length, { flags: NBD_CMD_FLAG_DF });
    expect(chunks).toHaveLength(1);
    expect(data.equals(disk)).toBeTrue();
  });

  test("of what is padded ends in a hole", () => {
    const { stream, peer } = open(disk.subarray(0, 2 * MIB), { size: disk.length, pad: true });
    using _ = stream;
    expect(stream.read(peer, 0, 2 * MIB).error).toBe(NBD_OK);
    const { chunks, data } = stream.read(peer, 2 * MIB, MIB);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length: MIB }]);
    expect(data.equals(Buffer.alloc(MIB))).toBeTrue();
  });

  test("of a source that ends early is what there was, and then an error that says so", () => {
    const { stream, peer } = open(disk.subarray(0, 2 * MIB), { size: disk.length });
    using _ = stream;
    const { error, message, data, chunks } = stream.read(peer, 0, disk.length);
    expect(error).toBe(NBD_EIO);
    expect(message).toContain(`ended at byte ${2 * MIB} of ${disk.length}`);
    expect(data.length).toBeGreaterThan(2 * MIB - 65536);
    expect(data.equals(disk.subarray(0, data.length))).toBeTrue();
    expect(chunks.at(-1)?.type).toBe(NBD_REPLY_TYPE_ERROR);
  });
});

describe("a block status", () => {
  test("of a disk without end is one extent of data", () => {
    const { stream, peer } = open(disk, { size: undefined });
    using _ = stream;
    const all = 2n ** 63n - 2n ** 30n;
    expect(status(stream, peer, 0, all)).toEqual([[all, 0]]);
    expect(status(stream, peer, 512, all - 512n, NBD_CMD_FLAG_REQ_ONE)).toEqual([[all - 512n, 0]]);
  });

  test("past the end or of nothing is EINVAL", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    expect(status(stream, peer, 0, disk.length)).toEqual([[BigInt(disk.length), 0]]);
    for (const [offset, length] of [
      [0, disk.length + 1],
      [0, 2n ** 64n - 1n],
      [512, 2n ** 64n - 512n],
      [0, 0],
    ] as const) {
      expect(status(stream, peer, offset, length)).toBe(NBD_EINVAL);
    }
  });
});

describe("what writes", () => {
  test("is EPERM in a chunk, with its payload thrown away", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    for (const request of [
      encodeExtendedWrite(0, Buffer.alloc(0)),
      encodeExtendedWrite(0, Buffer.alloc(300_000, encodeExtended(NBD_CMD_DISC, 0, 0))),
      encodeExtendedWrite(2n ** 63n, Buffer.from("x")),
      encodeExtended(NBD_CMD_WRITE, 0, 0),
      encodeExtended(NBD_CMD_WRITE_ZEROES, 0, 2n ** 64n - 1n),
      encodeExtended(NBD_CMD_TRIM, 2n ** 63n, 2n ** 62n),
    ]) {
      const { error, message } = ask(stream, peer, request);
      expect([error, message]).toEqual([NBD_EPERM, "the disk can only be read"]);
    }
    expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
    expect([stream.broken, stream.event("refused")]).toEqual([undefined, undefined]);
  });

  test("in pieces is thrown away as well", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    const write = encodeExtendedWrite(0, Buffer.alloc(100, encodeExtended(NBD_CMD_DISC, 0, 0)));
    for (let at = 0; at < write.length - 1; at++) {
      peer.send(write.subarray(at, at + 1));
      stream.until(() => peer.allSent);
      stream.turns(1);
    }
    expect(peer.available).toBe(0);
    peer.send(write.subarray(-1));
    const asked = { cookie: 1n, offset: 0, length: 0, structured: true, extended: true };
    expect(takeAnswer(stream, peer, asked).error).toBe(NBD_EPERM);
    expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
  });
});

describe.each([
  ["NBD_CMD_READ", NBD_CMD_READ],
  ["NBD_CMD_FLUSH", NBD_CMD_FLUSH],
  ["NBD_CMD_WRITE_ZEROES", NBD_CMD_WRITE_ZEROES],
  ["NBD_CMD_BLOCK_STATUS", NBD_CMD_BLOCK_STATUS],
  ["an unknown one", 99],
])("a payload of %s", (_, type) => {
  const HOSTILE = encodeExtended(NBD_CMD_DISC, 0, 0);

  test("is thrown away, and then the answer is EINVAL", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    for (const length of [1, 31, 32, 12, 300_000]) {
      const { error } = ask(
        stream,
        peer,
        encodeWithPayload(type, 0, Buffer.alloc(length, HOSTILE)),
      );
      expect(error).toBe(NBD_EINVAL);
    }
    expect(stream.counters.emitted).toBe(0);
    expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
  });

  test("that does not come whole cuts the connection, and no other", () => {
    const { stream, peer } = open(disk);
    using _ = stream;
    peer.send(encodeWithPayload(type, 0, HOSTILE).subarray(0, -1));
    stream.until(() => peer.allSent);
    stream.settle();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "cut", streamed: false });
    expect(stream.read(stream.connect(), 0, 10).data).toEqual(disk.subarray(0, 10));
  });
});

test("a header that is not to be trusted ends the connection, and no other", () => {
  const { stream } = open(disk);
  using _ = stream;
  for (const wrong of [
    encodeExtended(NBD_CMD_WRITE, 0, 2n ** 32n),
    encodeExtended(NBD_CMD_READ, 0, 32 * MIB + 1, { flags: 32 }),
    Buffer.concat([encodeRequest(NBD_CMD_READ, 0, 512), Buffer.alloc(4)]),
  ]) {
    const peer = stream.connect();
    peer.send(wrong);
    stream.until(() => peer.finished);
    expect(peer.available).toBe(0);
  }
  expect(stream.ends).toEqual(["garbage", "garbage", "garbage"]);
  expect(stream.read(stream.connect(), 0, 10).data).toEqual(disk.subarray(0, 10));
});

test("clients of all three forms read one stream", () => {
  const { stream } = open(disk, { window: MIB });
  using _ = stream;
  const forms = [{}, { structured: true }, { extended: true }];
  const parts = [0, 1, 2].map((i) => {
    stream.negotiated = forms[i] as (typeof forms)[number];
    return stream.read(stream.connect(), i * MIB, MIB).data;
  });
  expect(Buffer.concat(parts).equals(disk)).toBeTrue();
});
