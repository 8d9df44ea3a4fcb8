/** A stream that is written by clients with extended headers. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ESHUTDOWN,
  NBD_OK,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from "../../../src/protocol/constants.ts";
import type { Offset } from "../../../src/protocol/offset.ts";
import { takeAny, takeAnswer, takeStatus } from "../../support/answer.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import {
  encodeExtended,
  encodeExtendedWrite,
  encodeRequest,
  encodeWithPayload,
} from "../../support/wire.ts";
import type { Peer } from "../../support/peer.ts";
import type { Answer, Asked } from "../../support/replies.ts";
import { finish, StreamFixture, type StreamOptions } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const KIB = 1024;
const MIB = 1024 * KIB;
const HOLE = NBD_STATE_HOLE | NBD_STATE_ZERO;
const DISC = encodeExtended(NBD_CMD_DISC, 0, 0);

function open(options: StreamOptions = {}): { stream: StreamFixture; peer: Peer } {
  const stream = new StreamFixture(options);
  stream.negotiated = { extended: true, allocation: true };
  return { stream, peer: stream.connect() };
}

/** Sends what gives nothing back. @returns the answer, which is held to the specification */
function ask(stream: StreamFixture, peer: Peer, request: Buffer): Answer {
  peer.send(request);
  const asked = {
    cookie: request.readBigUInt64BE(8),
    offset: request.readBigUInt64BE(16),
    length: 0,
    structured: true,
    extended: true,
  };
  return takeAnswer(stream, peer, asked);
}

/** Takes the next answer, to what gives nothing back. @param offsetOf of the request of a cookie */
function acknowledged(
  stream: StreamFixture,
  peer: Peer,
  offsetOf: (cookie: bigint) => number,
): Answer {
  return takeAny(stream, peer, (cookie) => {
    return { cookie, offset: offsetOf(cookie), length: 0, structured: true, extended: true };
  });
}

/** Sends, and has all of it arrive. */
function deliver(stream: StreamFixture, peer: Peer, ...parts: Uint8Array[]): void {
  peer.send(...parts);
  stream.until(() => peer.allSent);
  stream.settle();
}

const askError = (...given: Parameters<typeof ask>) => ask(...given).error;

function read(stream: StreamFixture, peer: Peer, offset: Offset, length: number, flags = 0) {
  const asked: Asked = { cookie: 7n, offset, length, structured: true, extended: true };
  peer.send(encodeExtended(NBD_CMD_READ, offset, length, { cookie: 7n, flags }));
  return takeAnswer(stream, peer, asked);
}

/** Asks for the block status. @returns the extents, or the error */
function status(stream: StreamFixture, peer: Peer, offset: Offset, length: Offset, flags = 0) {
  peer.send(encodeExtended(NBD_CMD_BLOCK_STATUS, offset, length, { flags, cookie: 9n }));
  return takeStatus(stream, peer, { offset, cookie: 9n });
}

describe("a WRITE", () => {
  test("of any size goes into the stream as with compact headers, and is answered in a chunk", () => {
    const { stream, peer } = open();
    using _ = stream;
    // Small ones are read many at a time, large ones spliced: then their headers are read alone.
    const sizes = [1, 100, 32, 31, 40 * KIB, 40 * KIB, MIB, 5, 33 * KIB, 32 * KIB, 200_000, 1];
    const parts = sizes.map((size, i) => pseudoRandom(size, i + 1));
    let at = 0;
    const offsets = new Map<bigint, number>();
    for (const [i, part] of parts.entries()) {
      offsets.set(BigInt(i), at);
      peer.send(encodeExtendedWrite(at, part, BigInt(i)));
      at += part.length;
    }
    for (const _ of parts) {
      const { chunks } = acknowledged(stream, peer, (cookie) => {
        const offset = offsets.get(cookie) as number;
        offsets.delete(cookie);
        return offset;
      });
      expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_NONE, length: 0 }]);
    }
    peer.send(DISC);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["disconnected"]);
    expect(finish(stream).equals(Buffer.concat(parts))).toBeTrue();
  });

  test("that comes byte by byte is taken as one that comes whole", () => {
    const { stream, peer } = open();
    using _ = stream;
    const bytes = Buffer.concat([
      encodeExtendedWrite(0, Buffer.from("abc")),
      encodeExtendedWrite(3, Buffer.from("de")),
    ]);
    for (const byte of bytes) {
      deliver(stream, peer, Buffer.from([byte]));
    }
    expect(peer.available).toBe(2 * 32);
    expect(finish(stream).toString()).toBe("abcde");
  });

  test("early, in what came with the negotiation, is served", () => {
    using stream = new StreamFixture();
    stream.negotiated = { extended: true };
    const early = Buffer.concat([encodeExtendedWrite(0, Buffer.from("abc")), DISC]);
    const peer = stream.connect(new Uint8Array(early));
    stream.until(() => stream.ends.length === 1);
    expect(peer.available).toBe(32);
    expect(finish(stream).toString()).toBe("abc");
  });

  test("that does not say that it has a payload has one, as qemu's", () => {
    const { stream, peer } = open();
    using _ = stream;
    const sizes = [3, 32, 100_000, 40 * KIB, 7];
    const parts = sizes.map((size, i) => pseudoRandom(size, i + 1));
    let at = 0;
    for (const part of parts) {
      const header = encodeExtended(NBD_CMD_WRITE, at, part.length);
      expect(askError(stream, peer, Buffer.concat([header, part]))).toBe(NBD_OK);
      at += part.length;
    }
    expect(finish(stream).equals(Buffer.concat(parts))).toBeTrue();
  });

  test("of nothing is answered, with the flag and without it", () => {
    const { stream, peer } = open();
    using _ = stream;
    expect(askError(stream, peer, encodeExtended(NBD_CMD_WRITE, 0, 0))).toBe(NBD_OK);
    expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.alloc(0)))).toBe(NBD_OK);
    expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.from("a")))).toBe(NBD_OK);
  });

  test("may have FUA, and nothing else that is not known", () => {
    const { stream, peer } = open();
    using _ = stream;
    const write = (flags: number) =>
      encodeWithPayload(NBD_CMD_WRITE, 0, Buffer.from("a"), { flags });
    expect(askError(stream, peer, write(2))).toBe(NBD_EINVAL);
    expect(askError(stream, peer, write(NBD_CMD_FLAG_FUA))).toBe(NBD_OK);
  });

  test.each([0n, 2n ** 53n + 1n, 2n ** 64n - 1n])(
    "that is refused at %d is answered with an error chunk that has a text",
    (offset) => {
      const { stream, peer } = open({ size: 512 });
      using _ = stream;
      expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
      const { error, message, chunks } = ask(
        stream,
        peer,
        encodeExtendedWrite(offset, Buffer.from("de")),
      );
      expect(error).toBe(offset === 0n ? NBD_EIO : NBD_ENOSPC);
      expect(message.length).toBeGreaterThan(10);
      expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_ERROR, length: 0 }]);
    },
  );

  test("whose sink is gone is answered with an error chunk, each with its offset", () => {
    const { stream, peer } = open();
    using _ = stream;
    stream.stalled = true;
    const part = pseudoRandom(30_000);
    // More than the pipe takes.
    for (let i = 0; i < 64; i++) peer.send(encodeExtendedWrite(30_000 * i, part, BigInt(i)));
    stream.settle();
    stream.closeReader();
    const offsetOf = (cookie: bigint) => 30_000 * Number(cookie);
    const errors = Array.from({ length: 64 }, () => acknowledged(stream, peer, offsetOf).error);
    expect(new Set(errors)).toEqual(new Set([NBD_OK, NBD_ESHUTDOWN]));
    expect(stream.broken).toBe("READER_GONE");
  });
});

describe("a WRITE_ZEROES", () => {
  test("may be longer than a compact header can say", () => {
    const { stream, peer } = open();
    using _ = stream;
    expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    const zeroes = encodeExtended(NBD_CMD_WRITE_ZEROES, 3, 2n ** 62n + 1n, { flags: 3 });
    expect(askError(stream, peer, zeroes)).toBe(NBD_OK);
    // It is lazy: the data may still land in it.
    expect(askError(stream, peer, encodeExtendedWrite(3, Buffer.from("def")))).toBe(NBD_OK);
    expect(stream.output.toString()).toBe("abcdef");
    const more = encodeExtended(NBD_CMD_WRITE_ZEROES, 2n ** 62n, 2n ** 61n);
    expect(askError(stream, peer, more)).toBe(NBD_OK);
  });

  test("of more than 4 GiB is not taken for what is left of its length in 32 bits", () => {
    const size = 2 ** 32 + 512;
    const { stream, peer } = open({ size });
    using _ = stream;
    const zeroes = (length: Offset) => encodeExtended(NBD_CMD_WRITE_ZEROES, 0, length);
    expect(askError(stream, peer, zeroes(size + 1))).toBe(NBD_ENOSPC);
    expect(askError(stream, peer, zeroes(2n ** 32n * 2n + 512n))).toBe(NBD_ENOSPC);
    expect(askError(stream, peer, zeroes(2n ** 64n - 1n))).toBe(NBD_ENOSPC);
    expect(askError(stream, peer, zeroes(size))).toBe(NBD_OK);
    const wrapped = encodeExtended(NBD_CMD_WRITE_ZEROES, 512, 2n ** 64n - 512n);
    expect(askError(stream, peer, wrapped)).toBe(NBD_ENOSPC);
    stream.command({ type: "finish", short: "fail" });
    stream.until(() => stream.counters.zeroes > 0 || stream.broken !== undefined);
    expect(stream.broken).toBeUndefined();
  });

  test("of nothing is answered", () => {
    const { stream, peer } = open({ size: 512 });
    using _ = stream;
    expect(askError(stream, peer, encodeExtended(NBD_CMD_WRITE_ZEROES, 2n ** 64n - 1n, 0))).toBe(
      NBD_OK,
    );
  });
});

test("a FLUSH is answered in a chunk, and what is not known with an error chunk", () => {
  const { stream, peer } = open();
  using _ = stream;
  expect(ask(stream, peer, encodeExtended(NBD_CMD_FLUSH, 5, 7)).chunks).toEqual([
    { type: NBD_REPLY_TYPE_NONE, length: 0 },
  ]);
  // Their length says how much of the disk they are about, and is no payload.
  for (const type of [NBD_CMD_TRIM, 5, 8, 99, 0xffff]) {
    for (const length of [0, 32, 2 ** 32, 2n ** 64n - 1n]) {
      const { error, message } = ask(stream, peer, encodeExtended(type, 2n ** 63n, length));
      expect([error, message]).toEqual([NBD_EINVAL, "the request is not valid"]);
    }
  }
});

describe("a READ", () => {
  test("of what is not written yet is a hole, whatever its offset", () => {
    const { stream, peer } = open();
    using _ = stream;
    for (const offset of [0, 2 ** 33, 2n ** 62n + 1n]) {
      const { chunks } = read(stream, peer, offset, 32 * MIB);
      expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length: 32 * MIB }]);
    }
    const { chunks } = read(stream, peer, 0, 0);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_NONE, length: 0 }]);
  });

  test("of what is held in the window is data", () => {
    const { stream, peer } = open({ window: MIB });
    using _ = stream;
    const bytes = pseudoRandom(100_000);
    expect(askError(stream, peer, encodeExtendedWrite(200_000, bytes))).toBe(NBD_OK);
    const { chunks, data } = read(stream, peer, 150_000, 200_000);
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_DATA, length: 200_000 }]);
    const want = Buffer.concat([Buffer.alloc(50_000), bytes, Buffer.alloc(50_000)]);
    expect(data.equals(want)).toBeTrue();
  });

  test("of what has been streamed, past the end, or too large is an error", () => {
    const { stream, peer } = open({ size: 1000 });
    using _ = stream;
    expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    expect(read(stream, peer, 0, 1).error).toBe(NBD_EIO);
    for (const [offset, length] of [
      [1024, 1],
      [3, 1022],
      [3, 32 * MIB + 1],
      // Zero, or one, in 32 bits.
      [3, 2 ** 32],
      [3, 2 ** 32 + 1],
      [3, 2n ** 64n - 1n],
      [2n ** 64n - 1n, 2n ** 64n - 1n],
    ] as const) {
      expect(askError(stream, peer, encodeExtended(NBD_CMD_READ, offset, length))).toBe(NBD_EINVAL);
    }
  });
});

describe("a block status", () => {
  test("of a disk without end is one extent of all of it", () => {
    const { stream, peer } = open();
    using _ = stream;
    const all = 2n ** 63n - 2n ** 30n;
    expect(status(stream, peer, 0, all)).toEqual([[all, HOLE]]);
    expect(status(stream, peer, 0, all, NBD_CMD_FLAG_REQ_ONE)).toEqual([[all, HOLE]]);
    expect(askError(stream, peer, encodeExtendedWrite(0, pseudoRandom(5000)))).toBe(NBD_OK);
    expect(status(stream, peer, 0, all)).toEqual([[5000n, 0]]);
    expect(status(stream, peer, 5000, all - 5000n)).toEqual([[all - 5000n, HOLE]]);
    expect(status(stream, peer, 2 ** 32, 2 ** 33)).toEqual([[2n ** 33n, HOLE]]);
    expect(status(stream, peer, 1000, 512)).toEqual([[512n, 0]]);
  });

  test("past the end, of nothing, or with unknown flags is EINVAL", () => {
    const { stream, peer } = open({ size: 1000 });
    using _ = stream;
    expect(status(stream, peer, 0, 1024)).toEqual([[1024n, HOLE]]);
    for (const [offset, length, flags] of [
      [0, 1025, 0],
      [0, 2 ** 32, 0],
      [0, 2n ** 64n - 1n, 0],
      [512, 2n ** 64n - 512n, 0],
      [0, 0, 0],
      [0, 512, 4],
    ] as const) {
      expect(status(stream, peer, offset, length, flags)).toBe(NBD_EINVAL);
    }
    stream.negotiated = { extended: true };
    expect(status(stream, stream.connect(), 0, 512)).toBe(NBD_EINVAL);
  });
});

/** Commands that take no payload from this server. */
const WITHOUT_PAYLOAD = [
  ["NBD_CMD_READ", NBD_CMD_READ],
  ["NBD_CMD_FLUSH", NBD_CMD_FLUSH],
  ["NBD_CMD_TRIM", NBD_CMD_TRIM],
  ["NBD_CMD_WRITE_ZEROES", NBD_CMD_WRITE_ZEROES],
  ["NBD_CMD_BLOCK_STATUS", NBD_CMD_BLOCK_STATUS],
  ["an unknown one", 99],
] as const;

describe.each(WITHOUT_PAYLOAD)("a payload of %s", (_, type) => {
  /** What would be done if it were taken for a request. */
  const HOSTILE = Buffer.concat([encodeExtendedWrite(0, Buffer.from("hostile!")), DISC]);

  test.each([1, 12, 31, 32, HOSTILE.length, 300_000])(
    "of %d bytes is thrown away, and then the answer is EINVAL",
    (length) => {
      const { stream, peer } = open();
      using _ = stream;
      const request = encodeWithPayload(type, 5, Buffer.alloc(length, HOSTILE), { cookie: 3n });
      // Nothing is answered before its last byte is there.
      deliver(stream, peer, request.subarray(0, -1));
      expect(peer.available).toBe(0);
      peer.send(request.subarray(-1));
      const asked = { cookie: 3n, offset: 5, length: 0, structured: true, extended: true };
      const { error, message } = takeAnswer(stream, peer, asked);
      expect([error, message]).toEqual([NBD_EINVAL, "the request is not valid"]);
      expect(askError(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
      expect(finish(stream).toString()).toBe("abc");
      const refused = stream.events.filter((event) => event.type === "refused");
      expect(refused).toHaveLength(type === NBD_CMD_WRITE_ZEROES ? 1 : 0);
    },
  );

  test("comes after the answers to the WRITEs before it, and does not stop those behind it", () => {
    const { stream, peer } = open();
    using _ = stream;
    const large = pseudoRandom(100_000);
    peer.send(
      encodeExtendedWrite(0, large.subarray(0, 10), 1n),
      encodeWithPayload(type, 0, HOSTILE, { cookie: 2n }),
      encodeExtendedWrite(10, large.subarray(10), 3n),
      encodeWithPayload(type, 0, large, { cookie: 4n }),
      DISC,
    );
    stream.until(() => peer.finished);
    const offsets = [0, 0, 0, 10, 0];
    const answers = [1, 2, 3, 4].map(() =>
      acknowledged(stream, peer, (cookie) => offsets[Number(cookie)] as number),
    );
    expect(answers.map(({ error }) => error)).toEqual([0, NBD_EINVAL, 0, NBD_EINVAL]);
    expect(stream.ends).toEqual(["disconnected"]);
    expect(finish(stream).equals(large)).toBeTrue();
  });

  test("that is not there as a whole when the client ends cuts the connection, not the stream", () => {
    const { stream, peer } = open();
    using _ = stream;
    const request = encodeWithPayload(type, 0, HOSTILE);
    deliver(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")), request.subarray(0, -1));
    peer.halfClose();
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
    const write = encodeExtendedWrite(3, Buffer.from("def"));
    expect(askError(stream, stream.connect(), write)).toBe(NBD_OK);
    expect(finish(stream).toString()).toBe("abcdef");
  });
});

describe("a client in the middle of a payload that is not wanted", () => {
  const request = encodeWithPayload(NBD_CMD_FLUSH, 0, Buffer.alloc(1000));

  test("cuts its connection when it is gone without having taken its answers", () => {
    const { stream, peer } = open();
    using _ = stream;
    peer.deaf = true;
    deliver(stream, peer, encodeExtendedWrite(0, Buffer.from("abc")), request.subarray(0, 500));
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
    expect(finish(stream).toString()).toBe("abc");
  });

  test("is not waited for longer than in the middle of any request", () => {
    const { stream, peer } = open({ idleTimeout: 30 });
    using _ = stream;
    peer.send(request.subarray(0, 500));
    stream.until(() => peer.allSent);
    const since = performance.now();
    stream.until(() => stream.ends.length === 1 || performance.now() - since > 5000);
    expect(stream.ends).toEqual(["stalled"]);
  });
});

test("a client that comes back with extended headers may repeat what was cut off", () => {
  const { stream, peer } = open({ remembered: MIB });
  using _ = stream;
  const bytes = pseudoRandom(200_000);
  expect(askError(stream, peer, encodeExtendedWrite(0, bytes.subarray(0, 50_000)))).toBe(NBD_OK);
  deliver(stream, peer, encodeExtendedWrite(50_000, bytes.subarray(50_000)).subarray(0, 100_000));
  stream.hangUp(peer);
  stream.until(() => stream.ends.length === 1);
  const again = stream.connect();
  expect(askError(stream, again, encodeExtendedWrite(0, bytes.subarray(0, 50_000)))).toBe(NBD_OK);
  expect(askError(stream, again, encodeExtendedWrite(50_000, bytes.subarray(50_000)))).toBe(NBD_OK);
  expect(finish(stream).equals(bytes)).toBeTrue();
});

describe("the connection, and no other, ends", () => {
  test.each([
    [
      "a payload is larger than the largest that is advertised",
      encodeExtended(NBD_CMD_WRITE, 3, 32 * MIB + 1, { flags: 32 }),
    ],
    ["it is of a WRITE without a flag", encodeExtended(NBD_CMD_WRITE, 3, 2n ** 64n - 1n)],
    [
      "the payload of a command that takes none is as large",
      encodeExtended(NBD_CMD_BLOCK_STATUS, 3, 2n ** 32n + 12n, { flags: 32 }),
    ],
    [
      "the header is a compact one",
      Buffer.concat([encodeRequest(NBD_CMD_FLUSH, 0, 0), Buffer.alloc(4)]),
    ],
    ["the header is none", Buffer.alloc(32, "GET / HTTP/1.1\r\n")],
  ])("when %s", (_, wrong) => {
    const { stream, peer } = open();
    using _stream = stream;
    const other = stream.connect();
    peer.send(encodeExtendedWrite(0, Buffer.from("abc")), wrong, Buffer.alloc(100, "more"));
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["garbage"]);
    // What came before it has been answered, and is in the stream.
    stream.until(() => peer.finished);
    expect(peer.available).toBe(32);
    expect(askError(stream, other, encodeExtendedWrite(3, Buffer.from("def")))).toBe(NBD_OK);
    expect(finish(stream).toString()).toBe("abcdef");
  });

  test("when a client with compact headers sends an extended one", () => {
    const { stream } = open();
    using _ = stream;
    stream.negotiated = { structured: true };
    const peer = stream.connect();
    peer.send(encodeExtended(NBD_CMD_FLUSH, 0, 0));
    stream.until(() => peer.finished);
    expect(stream.ends).toEqual(["garbage"]);
    expect(peer.available).toBe(0);
  });
});

test("a payload of the largest size is taken", () => {
  const { stream, peer } = open();
  using _ = stream;
  const largest = Buffer.alloc(32 * MIB, "largest");
  expect(askError(stream, peer, encodeExtendedWrite(0, largest))).toBe(NBD_OK);
  expect(stream.output.length).toBeGreaterThan(0);
});

test("clients of all three forms write one stream", () => {
  const { stream, peer: extended } = open();
  using _ = stream;
  stream.negotiated = { structured: true };
  const structured = stream.connect();
  stream.negotiated = {};
  const simple = stream.connect();
  let want = "";
  for (let round = 0; round < 3; round++) {
    const text = `${round}abc`;
    const write = (at: number) => [
      encodeRequest(NBD_CMD_WRITE, at, text.length),
      Buffer.from(text),
    ];
    expect(askError(stream, extended, encodeExtendedWrite(want.length, Buffer.from(text)))).toBe(0);
    want += text;
    for (const peer of [structured, simple]) {
      peer.send(...write(want.length));
      stream.until(() => peer.available >= 16);
      expect(peer.takeReplies()).toEqual([{ error: 0, cookie: 1n }]);
      want += text;
    }
  }
  expect(finish(stream).toString()).toBe(want);
});
