import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { START } from "../../../src/stream/messages.ts";
import { NBD_OK } from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { ask, finish, StreamFixture, type StreamOptions, zeroes } from "../../support/stream.ts";
import { encodeWrite } from "../../support/wire.ts";

setDefaultTimeout(LIMIT);

const DATA = pseudoRandom(256 * 1024);
const FIRST = DATA.subarray(0, START);

/** What a stream has told of its beginning. */
function told(stream: StreamFixture): Buffer[] {
  return stream.events.flatMap((event) =>
    event.type === "first-bytes" ? [Buffer.from(event.bytes)] : [],
  );
}

const KINDS: [string, StreamOptions][] = [
  ["a plain stream", {}],
  ["a window", { window: 1 << 20 }],
  ["clients that come back", { remembered: 1 << 20 }],
];

describe.each(KINDS)("with %s, the first bytes are told once, when", (_, options) => {
  test.each([0, 1, 28, START - 1, START, 40_000])(
    "%d bytes of a large payload come before the rest",
    (split) => {
      using stream = new StreamFixture(options);
      const peer = stream.connect();
      const request = encodeWrite(0, DATA);
      const payloadAt = request.length - DATA.length;
      peer.send(request.subarray(0, payloadAt));
      stream.settle();
      peer.send(request.subarray(payloadAt, payloadAt + split));
      stream.settle();
      peer.send(request.subarray(payloadAt + split));
      stream.until(() => peer.available >= 16);
      expect(finish(stream)).toEqual(DATA);
      expect(told(stream)).toEqual([FIRST]);
    },
  );

  test.each([1, 3, 100, START, 4096])("they come in WRITEs of %d bytes", (length) => {
    using stream = new StreamFixture(options);
    const peer = stream.connect();
    for (let at = 0; at < 4096; at += length) {
      peer.send(encodeWrite(at, DATA.subarray(at, Math.min(at + length, 4096))));
    }
    stream.until(() => peer.available >= 16 * Math.ceil(4096 / length));
    expect(finish(stream)).toEqual(DATA.subarray(0, 4096));
    expect(told(stream)).toEqual([FIRST]);
  });

  test("a small WRITE is before a large one", () => {
    using stream = new StreamFixture(options);
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, DATA.subarray(0, 10)))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(10, DATA.subarray(10)))).toBe(NBD_OK);
    expect(finish(stream)).toEqual(DATA);
    expect(told(stream)).toEqual([FIRST]);
  });

  test("the stream is shorter", () => {
    using stream = new StreamFixture(options);
    expect(ask(stream, stream.connect(), encodeWrite(0, DATA.subarray(0, 5)))).toBe(NBD_OK);
    expect(finish(stream)).toEqual(DATA.subarray(0, 5));
    expect(told(stream)).toEqual([DATA.subarray(0, 5)]);
  });

  test("a gap follows them", () => {
    using stream = new StreamFixture(options);
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, DATA.subarray(0, 5)))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(100_000 - 5, 5))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(100_000, DATA))).toBe(NBD_OK);
    expect(finish(stream).length).toBe(100_000 + DATA.length);
    expect(told(stream)).toEqual([DATA.subarray(0, 5)]);
  });

  test.each([1, 100_000])("but not when %d zeroes come first", (gap) => {
    using stream = new StreamFixture(options);
    const peer = stream.connect();
    expect(ask(stream, peer, zeroes(gap))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(gap, DATA))).toBe(NBD_OK);
    expect(finish(stream).length).toBe(gap + DATA.length);
    expect(told(stream)).toEqual([]);
  });
});

test("the window has the rest of the first bytes", () => {
  using stream = new StreamFixture({ window: 1 << 20 });
  const peer = stream.connect();
  expect(ask(stream, peer, encodeWrite(10, DATA.subarray(10)))).toBe(NBD_OK);
  expect(ask(stream, peer, encodeWrite(0, DATA.subarray(0, 10)))).toBe(NBD_OK);
  expect(finish(stream)).toEqual(DATA);
  expect(told(stream)).toEqual([FIRST]);
});
