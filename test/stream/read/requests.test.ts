import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EPERM,
  NBD_OK,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
} from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import type { Peer } from "../../support/peer.ts";
import { ReadFixture } from "../../support/read-stream.ts";
import { decodeReply } from "../../support/replies.ts";
import { ask } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const disk = pseudoRandom(3 * 1024 * 1024);

/** A chunk that is the whole answer. */
function askChunk(stream: ReadFixture, peer: Peer, request: Uint8Array) {
  peer.send(request);
  const { form, chunks } = stream.take(peer, decodeReply());
  expect([form, chunks.length]).toEqual(["structured", 1]);
  const [[type, payload]] = chunks as [[number, Buffer]];
  return { type, payload };
}

describe("what writes", () => {
  test.each([1, 511, 70_000, 5 * 1024 * 1024])(
    "a WRITE of %d bytes is EPERM, with its payload drained",
    (length) => {
      using stream = ReadFixture.of(disk);
      const peer = stream.connect();
      // A payload that looks like a request must not be taken for one.
      const payload = Buffer.alloc(length, encodeRequest(NBD_CMD_DISC, 0, 0));
      expect(ask(stream, peer, encodeWrite(0, payload))).toBe(NBD_EPERM);
      expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
      expect(stream.ends).toEqual([]);
    },
  );

  test("WRITEs, WRITE_ZEROES and TRIM are EPERM wherever they go, and break nothing", () => {
    using stream = ReadFixture.of(disk);
    const peer = stream.connect();
    for (const request of [
      encodeWrite(0, new Uint8Array(0)),
      encodeWrite(2n ** 63n, Buffer.from("x")),
      encodeRequest(NBD_CMD_WRITE_ZEROES, 0, 4096, { flags: NBD_CMD_FLAG_NO_HOLE }),
      encodeRequest(NBD_CMD_TRIM, 0, 4096),
    ]) {
      expect(ask(stream, peer, request)).toBe(NBD_EPERM);
    }
    expect(stream.read(peer, 0, 10).error).toBe(NBD_OK);
    expect(stream.broken).toBeUndefined();
    expect(stream.event("refused")).toBeUndefined();
  });

  test("a client that dies in the payload of a refused WRITE harms nobody", () => {
    using stream = ReadFixture.of(disk);
    const peer = stream.connect();
    peer.send(encodeRequest(NBD_CMD_WRITE, 0, 1000), Buffer.alloc(500));
    stream.until(() => peer.allSent);
    stream.settle();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "cut", streamed: false });
    expect(stream.read(stream.connect(), 0, 10).data).toEqual(disk.subarray(0, 10));
  });
});

describe.each([false, true])("with structured replies: %p", (structured) => {
  const open = () => {
    const stream = ReadFixture.of(disk);
    stream.negotiated = { structured, allocation: structured };
    return stream;
  };

  test.each([
    [disk.length, 1],
    [disk.length - 511, 512],
    [2n ** 53n + 1n, 1],
    [2n ** 64n - 1n, 1],
    [0, 32 * 1024 * 1024 + 1],
    [disk.length + 1, 0],
  ])("a READ at %p of %d bytes is EINVAL, and the next one is served", (offset, length) => {
    using stream = open();
    const peer = stream.connect();
    const { error, message } = stream.read(peer, offset, length);
    expect(error).toBe(NBD_EINVAL);
    expect(message === "").toBe(!structured);
    expect(stream.read(peer, 0, 10).data).toEqual(disk.subarray(0, 10));
  });

  test("unknown commands and flags are EINVAL, and nothing moves", () => {
    using stream = open();
    const peer = stream.connect();
    for (const type of [NBD_CMD_FLUSH, 5, 8, 0xffff]) {
      expect(ask(stream, peer, encodeRequest(type, 0, 10))).toBe(NBD_EINVAL);
    }
    const flags = structured ? 1 << 5 : NBD_CMD_FLAG_DF;
    expect(stream.read(peer, 5000, 10, { flags }).error).toBe(NBD_EINVAL);
    expect(stream.counters.emitted).toBe(0);
  });

  test("READs arrive at any split, those that came during negotiation included", () => {
    const bytes = disk.subarray(0, 200);
    const input = Buffer.concat([
      encodeRequest(NBD_CMD_READ, 0, 120),
      encodeWrite(0, Buffer.alloc(9), 2n),
      encodeRequest(NBD_CMD_READ, 120, 80, { cookie: 3n }),
    ]);
    for (let split = 0; split <= input.length; split++) {
      for (const early of [true, false]) {
        using stream = ReadFixture.of(bytes, { size: 512, pad: true });
        stream.negotiated = { structured, allocation: false };
        const peer = stream.connect(early ? input.subarray(0, split) : undefined);
        if (!early) {
          peer.send(input.subarray(0, split));
          stream.until(() => peer.allSent);
        }
        peer.send(input.subarray(split));
        const first = stream.answer(peer, { cookie: 1n, offset: 0, length: 120, structured });
        expect(ask(stream, peer)).toBe(NBD_EPERM);
        const last = stream.answer(peer, { cookie: 3n, offset: 120, length: 80, structured });
        expect(Buffer.concat([first.data, last.data]).equals(bytes)).toBeTrue();
      }
    }
  });
});

describe("block status", () => {
  const open = (size: number, allocation = true) => {
    const stream = ReadFixture.of(disk.subarray(0, size));
    stream.negotiated = { structured: true, allocation };
    return stream;
  };
  const status = (offset: number, length: number, flags = 0) =>
    encodeRequest(NBD_CMD_BLOCK_STATUS, offset, length, { flags });

  test("all is data, before it is read and after", () => {
    using stream = open(disk.length);
    const peer = stream.connect();
    for (const turn of [1, 2]) {
      for (const [offset, length] of [
        [0, disk.length],
        [1024 * 1024 + 512, 512],
      ] as const) {
        const flags = turn === 1 ? 0 : NBD_CMD_FLAG_REQ_ONE;
        const { type, payload } = askChunk(stream, peer, status(offset, length, flags));
        expect(type).toBe(NBD_REPLY_TYPE_BLOCK_STATUS);
        expect([0, 4, 8].map((at) => payload.readUInt32BE(at))).toEqual([1, length, 0]);
        expect(payload.length).toBe(12);
      }
      expect(stream.counters.emitted).toBe(turn === 1 ? 0 : disk.length);
      if (turn === 1) stream.read(peer, 0, disk.length);
    }
  });

  test("reaches to the end of the last sector, and no further", () => {
    using stream = open(1000);
    const peer = stream.connect();
    const { payload } = askChunk(stream, peer, status(0, 1024));
    expect(payload.readUInt32BE(4)).toBe(1024);
    expect(askChunk(stream, peer, status(0, 1025)).payload.readUInt32BE(0)).toBe(NBD_EINVAL);
  });

  test.each([
    ["of nothing", status(0, 0), true],
    ["with an unknown flag", status(0, 512, NBD_CMD_FLAG_DF), true],
    ["that was not negotiated", status(0, 512), false],
  ])("%s is EINVAL", (_, request, allocation) => {
    using stream = open(1024, allocation);
    const { type, payload } = askChunk(stream, stream.connect(), request);
    expect(type).toBe(NBD_REPLY_TYPE_ERROR);
    expect(payload.readUInt32BE(0)).toBe(NBD_EINVAL);
  });

  test("is EINVAL in a simple reply where chunks were not negotiated", () => {
    using stream = ReadFixture.of(disk);
    expect(ask(stream, stream.connect(), status(0, 512))).toBe(NBD_EINVAL);
  });

  test("is answered while another client's READ waits for the source", () => {
    using stream = new ReadFixture({ size: 1024 });
    stream.negotiated = { structured: true, allocation: true };
    const [reader, other] = [stream.connect(), stream.connect()];
    stream.ask(reader, 0, 1024);
    stream.settle();
    expect(askChunk(stream, other, status(0, 512)).type).toBe(NBD_REPLY_TYPE_BLOCK_STATUS);
    expect(reader.available).toBe(0);
  });
});
