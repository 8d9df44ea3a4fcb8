import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_EIO,
  NBD_OK,
  NBD_SIMPLE_REPLY_SIZE,
} from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeRequest } from "../../support/wire.ts";
import { ReadFixture } from "../../support/read-stream.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const disk = pseudoRandom(16 * MIB);
const DISC = encodeRequest(NBD_CMD_DISC, 0, 0);

describe("several clients", () => {
  test("are served one by one, whole, and get each their own", () => {
    using stream = ReadFixture.of(disk);
    const peers = [0, 1, 2].map(() => stream.connect());
    const asked = peers.map((peer, i) => stream.ask(peer, i * 2 * MIB, 2 * MIB));
    for (const [i, peer] of peers.entries()) {
      const { data } = stream.answer(peer, asked[i] as (typeof asked)[0]);
      expect(data.equals(disk.subarray(i * 2 * MIB, (i + 1) * 2 * MIB))).toBeTrue();
    }
  });

  test("get their turn in the order in which they have asked", () => {
    using stream = new ReadFixture({ size: disk.length });
    const [a, b, c] = [stream.connect(), stream.connect(), stream.connect()];
    const asked = [];
    for (const [i, peer] of [b, c, a, b, c].entries()) {
      asked.push({ peer, asked: stream.ask(peer, i * 2 * MIB, 1.5 * MIB) });
      stream.until(() => peer.allSent);
      stream.settle();
    }
    stream.feed(disk);
    for (const [i, { peer, asked: one }] of asked.entries()) {
      const { error, data } = stream.answer(peer, one);
      expect(error).toBe(NBD_OK);
      expect(data.equals(disk.subarray(i * 2 * MIB, (i + 0.75) * 2 * MIB))).toBeTrue();
    }
  });

  test("that leave while they wait for their turn hold up nobody", () => {
    using stream = new ReadFixture({ size: disk.length });
    const [a, b, c] = [stream.connect(), stream.connect(), stream.connect()];
    const first = stream.ask(a, 0, 2 * MIB);
    stream.settle();
    stream.ask(b, 2 * MIB, 2 * MIB);
    stream.settle();
    const last = stream.ask(c, 4 * MIB, 2 * MIB);
    stream.settle();
    stream.hangUp(b);
    stream.feed(disk);
    expect(stream.answer(a, first).data.equals(disk.subarray(0, 2 * MIB))).toBeTrue();
    const { data } = stream.answer(c, last);
    expect(data.equals(disk.subarray(4 * MIB, 6 * MIB))).toBeTrue();
    expect(stream.broken).toBeUndefined();
  });

  test("wait for one that takes no replies, and go on when it is gone", () => {
    using stream = ReadFixture.of(disk);
    const [deaf, other] = [stream.connect(), stream.connect()];
    deaf.deaf = true;
    stream.ask(deaf, 0, 8 * MIB);
    stream.settle();
    const asked = stream.ask(other, 8 * MIB, MIB);
    stream.settle();
    expect(other.available).toBe(0);
    stream.hangUp(deaf);
    expect(stream.answer(other, asked).data.equals(disk.subarray(8 * MIB, 9 * MIB))).toBeTrue();
    expect(stream.ends).toEqual(["cut"]);
  });

  test("are not held up by one that takes no replies to what is small or refused", () => {
    using stream = ReadFixture.of(disk);
    const [deaf, other] = [stream.connect(), stream.connect()];
    deaf.deaf = true;
    deaf.send(Buffer.alloc(28 * 300_000, encodeRequest(9, 0, 0)));
    stream.settle();
    expect(deaf.allSent).toBeFalse();
    expect(stream.read(other, 0, 5 * MIB).data.equals(disk.subarray(0, 5 * MIB))).toBeTrue();
  });
});

describe("a client that goes", () => {
  test.each([
    [4096, "says so", true],
    [4096, "just leaves", false],
    [8 * MIB, "says so", true],
    [8 * MIB, "just leaves", false],
  ])("when it has its last READ of %d bytes, and %s, was not cut off", (length, _, polite) => {
    using stream = ReadFixture.of(disk);
    const peer = stream.connect();
    expect(stream.read(peer, disk.length - length, length).error).toBe(NBD_OK);
    if (polite) peer.send(DISC).pump();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual([polite ? "disconnected" : "dropped"]);
    expect(stream.event("closed")).toMatchObject({ streamed: true });
  });

  test("in the middle of a reply is cut, and what it may have got is gone", () => {
    using stream = ReadFixture.of(disk);
    stream.negotiated = { structured: true, allocation: false };
    const peer = stream.connect();
    stream.ask(peer, 0, disk.length);
    stream.until(() => peer.available > 4 * MIB);
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "cut", streamed: true });
    const head = stream.counters.emitted;
    expect(head).toBeGreaterThan(3 * MIB);
    const next = stream.connect();
    const { data } = stream.read(next, head, 3 * MIB);
    expect(data.equals(disk.subarray(head, head + 3 * MIB))).toBeTrue();
    expect(stream.read(next, 100, 1000).data).toEqual(disk.subarray(100, 1100));
    expect(stream.read(next, head - 1, 1).error).toBe(NBD_EIO);
  });

  test("in the middle of a reply out of memory leaves the rest where it was", () => {
    using stream = ReadFixture.of(disk, { window: 8 * MIB, reconnect: true, checksum: "md5" });
    stream.negotiated = { structured: true, allocation: false };
    const peer = stream.connect();
    stream.ask(peer, 0, 8 * MIB);
    stream.until(() => peer.available > 4 * MIB);
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    const head = stream.counters.emitted;
    const next = stream.connect();
    const { data } = stream.read(next, 4 * MIB - 1000, 8 * MIB);
    expect(data.equals(disk.subarray(4 * MIB - 1000, 12 * MIB - 1000))).toBeTrue();
    expect(head).toBeLessThanOrEqual(8 * MIB);
    stream.read(next, 12 * MIB - 1000, 4 * MIB + 1000);
    const want = new Bun.CryptoHasher("md5").update(disk).digest("hex");
    expect(stream.finish().checksum).toBe(want);
    expect(stream.event("resumed")).toBeDefined();
  });

  test("before the source has anything moves nothing", () => {
    using stream = new ReadFixture({ size: disk.length });
    const peer = stream.connect();
    stream.ask(peer, 3 * MIB, 1000);
    stream.settle();
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "cut", streamed: false });
    stream.feed(disk);
    expect(stream.read(stream.connect(), 0, 1000).data).toEqual(disk.subarray(0, 1000));
  });

  test("while the stream is passed over for it has moved it, and no more is passed over", () => {
    using stream = new ReadFixture({ size: disk.length });
    stream.feed(disk.subarray(0, 3 * MIB));
    const peer = stream.connect();
    stream.ask(peer, 6 * MIB, 1000);
    stream.until(() => stream.counters.emitted === 3 * MIB);
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "cut", streamed: true });
    stream.feed(disk.subarray(3 * MIB));
    stream.settle();
    expect(stream.counters.emitted).toBe(3 * MIB);
    const { data } = stream.read(stream.connect(), 3 * MIB, 1000);
    expect(data).toEqual(disk.subarray(3 * MIB, 3 * MIB + 1000));
  });

  test.each([
    [MIB, false],
    [MIB + 1, true],
  ])("after %d bytes of a longer stream has moved it: %p", (length, streamed) => {
    using stream = ReadFixture.of(disk);
    const peer = stream.connect();
    stream.read(peer, 0, length);
    peer.send(DISC);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "disconnected", streamed });
  });

  test("after all of a short stream has moved it", () => {
    using stream = ReadFixture.of(disk.subarray(0, 1000));
    const peer = stream.connect();
    stream.read(peer, 0, 1024);
    peer.send(DISC);
    stream.until(() => stream.ends.length === 1);
    expect(stream.event("closed")).toMatchObject({ end: "disconnected", streamed: true });
  });

  test("with NBD_CMD_DISC behind its READs gets their answers first", () => {
    using stream = ReadFixture.of(disk);
    const peer = stream.connect();
    const asked = [stream.ask(peer, 0, 3 * MIB), stream.ask(peer, 3 * MIB, 100)];
    peer.send(DISC);
    for (const one of asked) expect(stream.answer(peer, one).error).toBe(NBD_OK);
    stream.until(() => peer.finished);
  });

  test("half-closed still gets its replies", () => {
    using stream = new ReadFixture({ size: disk.length });
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, 5 * MIB);
    stream.until(() => peer.allSent);
    peer.halfClose();
    stream.settle();
    stream.feed(disk);
    expect(stream.answer(peer, asked).data.equals(disk.subarray(0, 5 * MIB))).toBeTrue();
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["dropped"]);
  });

  test("that waits for the source, and has moved nothing yet, is not among the silent", () => {
    using stream = new ReadFixture({ size: disk.length });
    const [silent, waiting] = [stream.connect(), stream.connect()];
    const asked = stream.ask(waiting, 0, 1000);
    stream.settle();
    expect(stream.status()).toMatchObject({ active: 1, waitsForEndpoint: true, full: false });
    stream.command({ type: "dismiss", whom: "silent" });
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["dismissed"]);
    stream.until(() => silent.finished);
    stream.feed(disk);
    expect(stream.answer(waiting, asked).error).toBe(NBD_OK);
  });
});

test("what is no request ends the connection, after the answers to what came before", () => {
  using stream = ReadFixture.of(disk);
  const peer = stream.connect();
  const asked = stream.ask(peer, 0, 2 * MIB);
  peer.send(encodeRequest(NBD_CMD_READ, 0, 1, { magic: 0x12345678 }));
  expect(stream.answer(peer, asked).error).toBe(NBD_OK);
  stream.until(() => peer.finished);
  expect(stream.ends).toEqual(["garbage"]);
  expect(stream.broken).toBeUndefined();
  expect(peer.available).toBeLessThan(NBD_SIMPLE_REPLY_SIZE);
});
