import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { close } from "../../../ffi/fd.ts";
import { socketpair } from "../../../ffi/socket.ts";
import { NBD_ESHUTDOWN, NBD_OK } from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeWrite } from "../../support/wire.ts";
import { ask, DISC, finish, FLUSH, readOf, StreamFixture, zeroes } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

describe("clients", () => {
  test("payloads of two clients are never mixed", () => {
    using stream = new StreamFixture();
    const first = stream.connect();
    const second = stream.connect();
    const a = Buffer.alloc(200_000, "a");
    const b = Buffer.alloc(200_000, "b");
    const write = encodeWrite(0, a);
    first.send(write.subarray(0, 100_000));
    stream.until(() => stream.counters.emitted > 0);
    second.send(encodeWrite(a.length, b));
    stream.settle();
    expect(second.available).toBe(0);
    first.send(write.subarray(100_000));
    stream.until(() => first.available >= 16 && second.available >= 16);
    expect(finish(stream).equals(Buffer.concat([a, b]))).toBeTrue();
  });

  test("a client is answered while another one is in the middle of a payload", () => {
    using stream = new StreamFixture();
    const first = stream.connect();
    const second = stream.connect();
    first.send(encodeWrite(0, pseudoRandom(100_000)).subarray(0, 50_000));
    stream.until(() => stream.counters.emitted > 0);
    expect(ask(stream, second, readOf(200_000, 0))).toBe(NBD_OK);
    expect(ask(stream, second, FLUSH)).toBe(NBD_OK);
  });

  test("NBD_CMD_DISC ends a connection after what came before it", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(0, Buffer.from("abc")), DISC);
    stream.until(() => peer.finished);
    expect(peer.takeReplies()).toEqual([{ error: NBD_OK, cookie: 1n }]);
    expect(stream.events.at(-1)).toMatchObject({ end: "disconnected", streamed: true });
  });

  test("a client that half-closes still gets its replies", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(100_000_000, Buffer.from("abc")));
    stream.until(() => peer.allSent);
    peer.halfClose();
    stream.until(() => peer.finished);
    expect(peer.takeReplies()).toEqual([{ error: NBD_OK, cookie: 1n }]);
    expect(stream.events.at(-1)).toMatchObject({ end: "dropped", streamed: true });
  });

  test.each([
    ["in a header", encodeWrite(0, pseudoRandom(100)).subarray(0, 20), "cut", false],
    ["in a small payload", encodeWrite(0, pseudoRandom(100)).subarray(0, 60), "cut", true],
    ["in a large payload", encodeWrite(0, pseudoRandom(100_000)).subarray(0, 70_000), "cut", true],
    ["between requests", encodeWrite(0, pseudoRandom(100)), "dropped", false],
  ])("a client that dies %s is noticed", (_, bytes, end, broken) => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(bytes);
    stream.until(() => peer.allSent);
    stream.settle();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual([end]);
    expect(stream.events.some((event) => event.type === "broken")).toBe(broken);
  });

  test("a client that dies in a payload while the reader stalls is noticed at once", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    peer.send(encodeWrite(0, pseudoRandom(32 * 1024 * 1024)));
    stream.settle();
    expect(peer.allSent).toBeFalse();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
  });

  test("what does not start with the request magic ends the connection, not the stream", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(
      encodeWrite(0, Buffer.from("abc")),
      Buffer.from("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    );
    stream.until(() => peer.finished);
    expect(stream.ends).toEqual(["garbage"]);
    const next = stream.connect();
    expect(ask(stream, next, encodeWrite(3, Buffer.from("d")))).toBe(NBD_OK);
    expect(finish(stream).toString()).toBe("abcd");
  });

  test("a client that takes no replies holds up nobody else", () => {
    using stream = new StreamFixture({ size: 64 * 1024 * 1024 });
    const deaf = stream.connect();
    const requests = Buffer.concat(new Array(8).fill(readOf(0, 32 * 1024 * 1024)));
    // Sent by hand: the fixture would take the replies.
    deaf.send(requests);
    stream.engine.turn(0);
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
  });

  test("the silent are those that have moved nothing, wherever they stopped", () => {
    using stream = new StreamFixture();
    const moved = stream.connect();
    expect(ask(stream, moved, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
    const [silent, inHeader, talking] = [stream.connect(), stream.connect(), stream.connect()];
    inHeader.send(encodeWrite(1, Buffer.from("y")).subarray(0, 20));
    expect(ask(stream, talking, FLUSH)).toBe(NBD_OK);
    stream.settle();
    stream.command({ type: "dismiss", whom: "silent" });
    stream.until(() => stream.ends.length === 3);
    expect(stream.ends).toEqual(["dismissed", "dismissed", "dismissed"]);
    expect([silent, inHeader, talking].every((peer) => peer.finished)).toBeTrue();
    expect(ask(stream, moved, encodeWrite(1, Buffer.from("y")))).toBe(NBD_OK);
    expect(stream.broken).toBeUndefined();
  });

  test("one that waits for another client's payload is not among the silent", () => {
    using stream = new StreamFixture();
    const [first, second] = [stream.connect(), stream.connect()];
    const write = encodeWrite(0, Buffer.alloc(100, 1));
    first.send(write.subarray(0, 60));
    stream.settle();
    second.send(encodeWrite(100, Buffer.from("y")));
    stream.settle();
    expect(stream.status()).toMatchObject({ active: 2, waitsForEndpoint: false });
    stream.command({ type: "dismiss", whom: "silent" });
    first.send(write.subarray(60));
    stream.until(() => first.available >= 16 && second.available >= 16);
    expect(stream.ends).toEqual([]);
    expect(finish(stream)).toHaveLength(101);
  });

  test("a client that is dismissed in the middle of a WRITE breaks the stream", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(0, Buffer.alloc(100, 1)).subarray(0, 60));
    stream.settle();
    stream.command({ type: "dismiss", whom: "all" });
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["left-behind"]);
    expect(stream.broken).toBe("CLIENT_CUT");
  });
});

describe("corner cases", () => {
  test.each([511, 512, 513, 1023, 1024, 1025])(
    "%d small writes and a flush in one go are all answered",
    (count) => {
      using stream = new StreamFixture();
      const peer = stream.connect();
      const data = pseudoRandom(count);
      const writes = Array.from(data, (byte, at) => encodeWrite(at, Buffer.of(byte)));
      peer.send(Buffer.concat([...writes, FLUSH, readOf(count, 0)]));
      stream.until(() => peer.available >= (count + 2) * 16);
      expect(peer.takeReplies().every((reply) => reply.error === NBD_OK)).toBeTrue();
      expect(finish(stream).equals(data)).toBeTrue();
    },
  );

  test("a client that comes while the stream finishes is turned away", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    expect(ask(stream, peer, zeroes(64 * 1024 * 1024))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    const late = stream.connect(encodeWrite(2 ** 40, Buffer.from("late")));
    stream.until(() => late.finished);
    stream.stalled = false;
    stream.until(() => stream.sawEnd);
    expect(stream.output.length).toBe(64 * 1024 * 1024);
  });

  test("a half-closed client that then goes ends its gap", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(2 ** 39, Buffer.from("x")));
    stream.until(() => peer.allSent && stream.counters.zeroes > 100_000_000);
    peer.halfClose();
    const before = stream.counters.zeroes;
    stream.until(() => stream.counters.zeroes > before + 100_000_000);
    expect(stream.ends).toEqual([]);
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
  });

  test("a gap that would take years ends when its client sends no more", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(2n ** 62n, Buffer.from("x")));
    stream.until(() => peer.allSent && stream.counters.zeroes > 0);
    peer.halfClose();
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
  });

  test("a client that is gone before its turn comes starts no gap", () => {
    using stream = new StreamFixture();
    const first = stream.connect();
    const second = stream.connect();
    first.send(encodeWrite(0, pseudoRandom(100_000)).subarray(0, 50_000));
    stream.until(() => stream.counters.emitted > 0);
    second.send(encodeWrite(2n ** 62n, Buffer.from("x")));
    stream.until(() => second.allSent);
    stream.settle();
    stream.hangUp(second);
    stream.settle();
    first.send(encodeWrite(0, pseudoRandom(100_000)).subarray(50_000));
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
  });

  test.each([52, 60, 61, 62, 63, 64])(
    "a payload to be dropped may arrive with %d requests before it",
    (count) => {
      using stream = new StreamFixture({ size: 65536 + 511 });
      const peer = stream.connect();
      const first = encodeWrite(0, pseudoRandom(65536));
      const flushes = new Array(count).fill(FLUSH);
      const last = encodeWrite(65536, Buffer.concat([pseudoRandom(511), Buffer.alloc(1)]));
      peer.send(first);
      stream.until(() => peer.available >= 16);
      peer.send(...flushes, last.subarray(0, last.length - 1));
      stream.settle();
      peer.send(last.subarray(last.length - 1), FLUSH);
      stream.until(() => peer.available >= (count + 3) * 16 || peer.finished);
      expect(peer.takeReplies().every((reply) => reply.error === NBD_OK)).toBeTrue();
      expect(finish(stream).length).toBe(65536 + 511);
    },
  );

  test("a write whose data is lost with the sink is not answered as good for its tail", () => {
    using stream = new StreamFixture({ size: 16 * 1024 * 1024 + 100 });
    stream.stalled = true;
    const peer = stream.connect();
    const fill = encodeWrite(0, pseudoRandom(16 * 1024 * 1024 - 512));
    peer.send(fill);
    stream.settle();
    const last = encodeWrite(16 * 1024 * 1024 - 512, Buffer.alloc(1024));
    peer.send(last.subarray(0, last.length - 5));
    stream.settle();
    stream.closeReader();
    stream.settle();
    peer.send(last.subarray(last.length - 5));
    stream.until(() => peer.available >= 32);
    expect(peer.takeReplies().map((reply) => reply.error)).toEqual([NBD_ESHUTDOWN, NBD_ESHUTDOWN]);
  });

  test("a client that takes no replies and goes is still heard to the end", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(0, Buffer.from("abc")), DISC);
    while (!peer.allSent) peer.pump();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["disconnected"]);
    expect(finish(stream).toString()).toBe("abc");
  });

  test("a client that takes no replies is among the silent", () => {
    using stream = new StreamFixture({ size: 64 * 1024 * 1024 });
    const [near, far] = socketpair();
    const requests = Buffer.concat(new Array(4).fill(readOf(0, 32 * 1024 * 1024)));
    const client = { fd: far, leftover: requests, negotiated: stream.negotiated };
    stream.command({ type: "connection", id: 1, client });
    stream.settle();
    stream.command({ type: "dismiss", whom: "silent" });
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["dismissed"]);
    close(near);
  });

  test("a stream that ends short of its size can be made a failure", () => {
    using stream = new StreamFixture({ size: 1024 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.alloc(512)))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "fail" });
    stream.until(() => stream.engine.over);
    const broken = stream.events.find((event) => event.type === "broken");
    expect(broken?.failure.code).toBe("TOO_SHORT");
  });

  test("a reader that has taken the whole size may leave before the client does", () => {
    using stream = new StreamFixture({ size: 1024 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(1024)))).toBe(NBD_OK);
    stream.until(() => stream.output.length === 1024);
    stream.closeReader();
    stream.settle();
    expect(ask(stream, peer, FLUSH)).toBe(NBD_OK);
    stream.command({ type: "finish", short: "fail" });
    stream.until(() => stream.engine.over);
    expect(stream.events.some((event) => event.type === "broken")).toBeFalse();
  });
});
