import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { openSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { WakeUp } from "../../ffi/poll.ts";
import { socketpair } from "../../ffi/socket.ts";
import { FileSink } from "../../src/endpoint/sink/file-sink.ts";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ESHUTDOWN,
  NBD_OK,
} from "../../src/protocol/constants.ts";
import { Counters } from "../../src/stream/counters.ts";
import { Engine } from "../../src/stream/engine.ts";
import type { Command } from "../../src/stream/messages.ts";
import { Vigil } from "../../src/stream/vigil.ts";
import { WriteFlow } from "../../src/stream/write/write-flow.ts";
import { pseudoRandom } from "../support/images.ts";
import { encodeRequest, encodeWrite } from "../support/nbd-client.ts";
import type { Peer } from "../support/peer.ts";
import { StreamFixture } from "../support/stream.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const zeroes = (length: number, offset: number | bigint = 0, cookie = 1n) =>
  encodeRequest(NBD_CMD_WRITE_ZEROES, offset, length, { cookie });
const readOf = (offset: number | bigint, length: number) =>
  encodeRequest(NBD_CMD_READ, offset, length);
const DISC = encodeRequest(NBD_CMD_DISC, 0, 0);
const FLUSH = encodeRequest(NBD_CMD_FLUSH, 0, 0);

/** Sends, and gives the error of the one reply. */
function ask(stream: StreamFixture, peer: Peer, ...parts: Uint8Array[]): number {
  peer.send(...parts);
  stream.until(() => peer.available >= 16);
  return peer.take(16).readUInt32BE(4);
}

/** Ends the stream well and gives all that came out of it. */
function finish(stream: StreamFixture, pad = false): Buffer {
  stream.settle();
  stream.command({ type: "finish", short: pad ? "pad" : "allow" });
  stream.until(() => stream.sawEnd);
  return stream.output;
}

describe("writes in sequence", () => {
  test.each([1, 27, 512, 4096, 65536, 3 * 1024 * 1024 + 5])(
    "payloads of %d bytes come out as they went in",
    (size) => {
      using stream = new StreamFixture();
      const peer = stream.connect();
      const data = pseudoRandom(Math.max(4 * size, 20_000));
      const errors: number[] = [];
      for (let at = 0; at < data.length; at += size) {
        peer.send(encodeWrite(at, data.subarray(at, at + size), BigInt(at)));
      }
      const count = Math.ceil(data.length / size);
      stream.until(() => peer.allSent && peer.available >= count * 16);
      const replies = peer.takeReplies();
      errors.push(...replies.map((reply) => reply.error));
      expect(errors).toEqual(new Array(count).fill(NBD_OK));
      expect(replies.map((reply) => reply.cookie)).toEqual(
        Array.from({ length: count }, (_, i) => BigInt(i * size)),
      );
      expect(finish(stream).equals(data)).toBeTrue();
    },
  );

  test("a payload of 32 MiB passes whole", () => {
    using stream = new StreamFixture();
    const data = pseudoRandom(32 * 1024 * 1024);
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, data))).toBe(NBD_OK);
    expect(finish(stream).equals(data)).toBeTrue();
  });

  test("requests arrive at any split", () => {
    const data = pseudoRandom(200);
    const input = Buffer.concat([
      encodeWrite(0, data.subarray(0, 100)),
      encodeWrite(100, data.subarray(100)),
      FLUSH,
    ]);
    for (let split = 0; split <= input.length; split++) {
      using stream = new StreamFixture();
      const peer = stream.connect();
      peer.send(input.subarray(0, split));
      stream.until(() => peer.allSent);
      stream.settle();
      peer.send(input.subarray(split));
      stream.until(() => peer.available >= 48);
      expect(finish(stream).equals(data)).toBeTrue();
    }
  });

  test("requests that came during negotiation count, at any split", () => {
    const data = pseudoRandom(100);
    const input = Buffer.concat([
      encodeWrite(0, data.subarray(0, 60)),
      encodeWrite(60, data.subarray(60)),
    ]);
    for (let split = 0; split <= input.length; split++) {
      using stream = new StreamFixture();
      const peer = stream.connect(input.subarray(0, split));
      peer.send(input.subarray(split));
      stream.until(() => peer.available >= 32);
      expect(finish(stream).equals(data)).toBeTrue();
    }
  });

  test("small and large payloads alternate", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    const data = pseudoRandom(4 * 1024 * 1024);
    let at = 0;
    let count = 0;
    for (let size = 1; at < data.length; size = (size * 7 + 13) % 300_000, count++) {
      const payload = data.subarray(at, at + size);
      peer.send(encodeWrite(at, payload));
      at += payload.length;
    }
    stream.until(() => peer.available >= count * 16);
    expect(peer.takeReplies().every((reply) => reply.error === NBD_OK)).toBeTrue();
    expect(finish(stream).equals(data)).toBeTrue();
  });

  test("more small requests than fit into one vector are all answered", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    const count = 5000;
    const data = pseudoRandom(count);
    for (let i = 0; i < count; i++) peer.send(encodeWrite(i, data.subarray(i, i + 1), BigInt(i)));
    stream.until(() => peer.available >= count * 16);
    expect(peer.takeReplies().map((reply) => reply.cookie)).toEqual(
      Array.from({ length: count }, (_, i) => BigInt(i)),
    );
    expect(finish(stream).equals(data)).toBeTrue();
  });

  test("FUA is accepted on every command", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    const flags = NBD_CMD_FLAG_FUA;
    const write = encodeRequest(NBD_CMD_WRITE, 0, 1, { flags });
    expect(ask(stream, peer, write, Buffer.from("x"))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeRequest(NBD_CMD_FLUSH, 0, 0, { flags }))).toBe(NBD_OK);
    const zero = encodeRequest(NBD_CMD_WRITE_ZEROES, 1, 9, { flags: flags | NBD_CMD_FLAG_NO_HOLE });
    expect(ask(stream, peer, zero)).toBe(NBD_OK);
    expect(ask(stream, peer, encodeRequest(NBD_CMD_READ, 10, 0, { flags }))).toBe(NBD_OK);
  });
});

describe("gaps and zeroes", () => {
  test("a forward jump leaves zeroes", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(100_000, Buffer.from("end")))).toBe(NBD_OK);
    expect(
      finish(stream).equals(Buffer.concat([Buffer.alloc(100_000), Buffer.from("end")])),
    ).toBeTrue();
    expect(stream.counters.zeroes).toBe(100_000);
    expect(stream.counters.data).toBe(3);
  });

  test("zeroes between two payloads of one batch come out between them", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(
      encodeWrite(0, Buffer.from("a")),
      encodeWrite(5, Buffer.from("b")),
      encodeWrite(6, Buffer.from("c")),
      encodeWrite(9, Buffer.from("d")),
    );
    stream.until(() => peer.available >= 64);
    expect(finish(stream).toString("latin1")).toBe("a\0\0\0\0bc\0\0d");
  });

  test("WRITE_ZEROES is answered at once and emitted only at the end", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, zeroes(1_000_000))).toBe(NBD_OK);
    stream.settle();
    expect(stream.counters.emitted).toBe(0);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_OK);
    expect(stream.counters.emitted).toBe(0);
    expect(finish(stream).equals(Buffer.alloc(1_000_000))).toBeTrue();
  });

  test("data lands inside zeroes that are pending", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, zeroes(10))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(4, Buffer.from("x")))).toBe(NBD_OK);
    expect(finish(stream).toString("latin1")).toBe("\0\0\0\0x\0\0\0\0\0");
  });

  test("a finish with padding brings the stream to its size", () => {
    using stream = new StreamFixture({ size: 1000 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
    expect(finish(stream, true).length).toBe(1000);
  });

  test("a gap of 2^62 bytes ends with the client that left it", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(2n ** 62n, Buffer.from("x")));
    stream.until(() => stream.counters.zeroes > 100_000_000);
    stream.hangUp(peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
    expect(stream.events).toContainEqual(
      expect.objectContaining({
        type: "broken",
        failure: expect.objectContaining({ code: "CLIENT_CUT" }),
      }),
    );
  });

  test("a gap of 2^62 bytes ends with the reader", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    peer.send(encodeWrite(2n ** 62n, Buffer.from("x")));
    stream.until(() => stream.counters.zeroes > 100_000_000);
    stream.closeReader();
    stream.until(() => peer.available >= 16);
    expect(peer.takeReplies()).toEqual([{ error: NBD_ESHUTDOWN, cookie: 1n }]);
  });
});

describe("what breaks the rule", () => {
  test("a write below the head is EIO, and so is everything after it", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abcd")))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(2, Buffer.from("x")))).toBe(NBD_EIO);
    expect(ask(stream, peer, encodeWrite(4, Buffer.from("x")))).toBe(NBD_EIO);
    expect(ask(stream, peer, zeroes(1, 4))).toBe(NBD_EIO);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_EIO);
    stream.settle();
    expect(stream.output.toString()).toBe("abcd");
    const broken = stream.events.filter((event) => event.type === "broken");
    expect(broken.map((event) => event.failure.code)).toEqual(["BACKWARD_WRITE"]);
    expect(broken[0]?.failure.message).toContain("NBD_CMD_WRITE of 1 bytes at 2 ");
  });

  test("zeroes below the head break the stream as data does", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abcd")))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(1, 3))).toBe(NBD_EIO);
    expect(ask(stream, peer, encodeWrite(4, Buffer.from("x")))).toBe(NBD_EIO);
  });

  test("a broken stream is broken for other clients too", () => {
    using stream = new StreamFixture();
    const first = stream.connect();
    const second = stream.connect();
    expect(ask(stream, first, encodeWrite(9, Buffer.from("a")))).toBe(NBD_OK);
    expect(ask(stream, first, encodeWrite(0, Buffer.from("a")))).toBe(NBD_EIO);
    expect(ask(stream, second, encodeWrite(10, Buffer.from("a")))).toBe(NBD_EIO);
  });

  test("reads at and past the head give zeroes, below it EIO without breaking the stream", () => {
    using stream = new StreamFixture({ size: 1 << 20 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abcd")))).toBe(NBD_OK);
    expect(ask(stream, peer, readOf(4, 70_000))).toBe(NBD_OK);
    stream.until(() => peer.available >= 70_000);
    expect(peer.take(70_000).equals(Buffer.alloc(70_000))).toBeTrue();
    expect(ask(stream, peer, readOf(3, 2))).toBe(NBD_EIO);
    expect(ask(stream, peer, readOf((1 << 20) - 1, 2))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeWrite(4, Buffer.from("e")))).toBe(NBD_OK);
  });

  test("a read larger than the largest payload is EINVAL", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, readOf(0, 2 ** 32 - 1))).toBe(NBD_EINVAL);
  });

  test("a write past the end is ENOSPC, its payload is drained, and the next one is served", () => {
    using stream = new StreamFixture({ size: 1024 });
    const peer = stream.connect();
    const large = encodeWrite(512, pseudoRandom(300_000));
    expect(ask(stream, peer, large)).toBe(NBD_ENOSPC);
    expect(ask(stream, peer, encodeWrite(2n ** 64n - 1n, Buffer.from("x")))).toBe(NBD_ENOSPC);
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
    expect(stream.events).toContainEqual({
      type: "refused",
      request: "NBD_CMD_WRITE of 300000 bytes at 512",
      error: NBD_ENOSPC,
    });
    expect(finish(stream).toString()).toBe("x");
  });

  test("offsets near 2^53 and 2^63 are told apart exactly", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, zeroes(1, 2n ** 53n))).toBe(NBD_OK);
    expect(ask(stream, peer, readOf(2n ** 63n - 2n ** 30n - 1n, 1))).toBe(NBD_OK);
    stream.until(() => peer.available === 1);
    peer.take(1);
    expect(ask(stream, peer, readOf(2n ** 63n - 2n ** 30n, 1))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, zeroes(2, 2n ** 63n - 2n ** 30n - 1n))).toBe(NBD_ENOSPC);
  });

  test("unknown commands and flags are EINVAL, with their payload drained", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeRequest(4, 0, 1000))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeRequest(99, 0, 0))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeRequest(NBD_CMD_READ, 0, 1, { flags: 4 }))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeRequest(NBD_CMD_FLUSH, 0, 0, { flags: 2 }))).toBe(NBD_EINVAL);
    const zero = encodeRequest(NBD_CMD_WRITE_ZEROES, 0, 1, { flags: 16 });
    expect(ask(stream, peer, zero)).toBe(NBD_EINVAL);
    const write = encodeRequest(NBD_CMD_WRITE, 0, 3, { flags: 2 });
    expect(ask(stream, peer, write, Buffer.from("abc"))).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("ok")))).toBe(NBD_OK);
  });

  test("requests of no length succeed and change nothing", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abcd")))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(0, Buffer.alloc(0)))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(0, 1))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(4, Buffer.from("e")))).toBe(NBD_OK);
    expect(finish(stream).toString()).toBe("abcde");
  });
});

describe("a size that is not a multiple of 512", () => {
  test("zeroes in the last sector's rest are accepted and left out", () => {
    using stream = new StreamFixture({ size: 1000 });
    const peer = stream.connect();
    const data = Buffer.concat([pseudoRandom(1000), Buffer.alloc(24)]);
    expect(ask(stream, peer, encodeWrite(0, data))).toBe(NBD_OK);
    expect(finish(stream, true).equals(data.subarray(0, 1000))).toBeTrue();
  });

  test("data in the last sector's rest is ENOSPC and reported", () => {
    using stream = new StreamFixture({ size: 1000 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(1024)))).toBe(NBD_ENOSPC);
    expect(stream.events.some((event) => event.type === "refused")).toBeTrue();
    expect(ask(stream, peer, encodeWrite(1024, Buffer.from("x")))).toBe(NBD_ENOSPC);
  });

  test("zeroes written to the rest alone reach to the stream's end", () => {
    using stream = new StreamFixture({ size: 1000 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(1000, Buffer.alloc(24)))).toBe(NBD_OK);
    expect(ask(stream, peer, encodeWrite(998, Buffer.from("x\0")))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(24, 1000))).toBe(NBD_OK);
    expect(
      finish(stream).equals(Buffer.concat([Buffer.alloc(998), Buffer.from("x\0")])),
    ).toBeTrue();
  });
});

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

  test("a silent client is ended when nothing more is expected, one that talks is not", () => {
    using stream = new StreamFixture();
    const silent = stream.connect();
    const talking = stream.connect();
    stream.settle();
    stream.command({ type: "last-words", idle: 400 });
    for (let i = 0; i < 50; i++) {
      expect(ask(stream, talking, FLUSH)).toBe(NBD_OK);
      Bun.sleepSync(10);
    }
    stream.until(() => silent.finished);
    expect(stream.ends).toEqual(["left-behind"]);
    expect(talking.finished).toBeFalse();
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

  test("a client left behind that takes no replies is ended too", () => {
    using stream = new StreamFixture({ size: 64 * 1024 * 1024 });
    const [near, far] = socketpair();
    const requests = Buffer.concat(new Array(4).fill(readOf(0, 32 * 1024 * 1024)));
    const client = { fd: far, leftover: requests, negotiated: stream.negotiated };
    stream.command({ type: "connection", id: 1, client });
    stream.settle();
    stream.command({ type: "last-words", idle: 50 });
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["left-behind"]);
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

describe("the sink", () => {
  test("writes wait for a reader, zeroes and reads do not", () => {
    using stream = new StreamFixture({ reader: false });
    const peer = stream.connect();
    expect(ask(stream, peer, readOf(0, 0))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(5))).toBe(NBD_OK);
    peer.send(encodeWrite(5, Buffer.from("x")));
    stream.settle();
    expect(peer.available).toBe(0);
    stream.openReader();
    stream.until(() => peer.available >= 16);
    expect(peer.takeReplies()).toEqual([{ error: NBD_OK, cookie: 1n }]);
    expect(finish(stream).toString("latin1")).toBe("\0\0\0\0\0x");
  });

  test("a stalled reader holds up the client, and nothing is lost when it goes on", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const data = pseudoRandom(24 * 1024 * 1024);
    const peer = stream.connect();
    const writes: Buffer[] = [];
    for (let at = 0; at < data.length; at += 10_000) {
      writes.push(encodeWrite(at, data.subarray(at, at + 10_000)));
    }
    peer.send(...writes);
    stream.settle();
    expect(peer.allSent).toBeFalse();
    stream.stalled = false;
    const count = Math.ceil(data.length / 10_000);
    stream.until(() => peer.available >= count * 16);
    expect(finish(stream).equals(data)).toBeTrue();
  });

  test.each([100, 100_000])("a reader that dies is ESHUTDOWN to writes of %d bytes", (size) => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(size)))).toBe(NBD_OK);
    stream.closeReader();
    expect(ask(stream, peer, encodeWrite(size, pseudoRandom(size)))).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, zeroes(1, 2 * size))).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, readOf(10 * size, 0))).toBe(NBD_OK);
  });

  test("a reader that dies in the middle of a payload fails that request, in step", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    peer.send(encodeWrite(0, pseudoRandom(32 * 1024 * 1024)));
    stream.settle();
    stream.closeReader();
    stream.until(() => peer.available >= 16);
    expect(peer.takeReplies()).toEqual([{ error: NBD_ESHUTDOWN, cookie: 1n }]);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_ESHUTDOWN);
  });

  test("a reader that dies is noticed without a client", () => {
    using stream = new StreamFixture();
    stream.closeReader();
    stream.until(() => stream.events.some((event) => event.type === "broken"));
    expect(stream.events.at(-1)).toMatchObject({ failure: { code: "READER_GONE" } });
  });

  test("a finish waits until the reader has taken everything", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    expect(stream.engine.over).toBeFalse();
    stream.stalled = false;
    stream.until(() => stream.sawEnd);
    expect(stream.output.toString()).toBe("abc");
  });

  test("a reader that dies before it has taken everything is a failure, even at the end", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    stream.closeReader();
    stream.until(() => stream.engine.over);
    const broken = stream.events.find((event) => event.type === "broken");
    expect(broken?.failure.message).toContain("3 bytes of it unread");
  });

  test("zeroes that are left for the end are not waited with where the sink takes more", () => {
    using folder = tempFolder();
    const post = () => {};
    const sink = new FileSink("file", openSync(folder.file("sparse"), "w"));
    const size = 2 ** 30;
    const options = { window: 0, reconnect: false, counters: new Counters(), post };
    const commands: Command[] = [{ type: "finish", short: "pad" }];
    const wake = new WakeUp();
    const engine = new Engine({
      flow: new WriteFlow({ sink, size, ...options }),
      idleTimeout: undefined,
      wake,
      receive: () => commands.shift(),
      post,
    });
    const stayAwake = spyOn(Vigil.prototype, "stayAwake");
    const sleep = spyOn(Vigil.prototype, "sleep");
    try {
      while (!engine.over) engine.turn();
      expect(options.counters.zeroes).toBe(size);
      expect(stayAwake).not.toHaveBeenCalled();
      expect(sleep).not.toHaveBeenCalled();
    } finally {
      stayAwake.mockRestore();
      sleep.mockRestore();
      wake.close();
    }
  });

  test("an abort emits nothing more", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(100, 3))).toBe(NBD_OK);
    stream.command({ type: "abort" });
    stream.until(() => stream.sawEnd);
    expect(stream.output.toString()).toBe("abc");
  });
});
