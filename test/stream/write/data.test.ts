import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ESHUTDOWN,
  NBD_OK,
} from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import { ask, finish, FLUSH, StreamFixture, zeroes } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

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

  test("FLUSH, and FUA on every command, are EINVAL where they are not offered", () => {
    using stream = new StreamFixture({ flushes: false });
    const peer = stream.connect();
    const flags = NBD_CMD_FLAG_FUA;
    const byte = Buffer.from("x");
    const asks: [type: number, length: number, ...payload: Buffer[]][] = [
      [NBD_CMD_WRITE, 1, byte],
      [NBD_CMD_FLUSH, 0],
      [NBD_CMD_WRITE_ZEROES, 9],
      [NBD_CMD_READ, 1],
    ];
    for (const [type, length, ...payload] of asks) {
      const request = encodeRequest(type, 0, length, { flags });
      expect(ask(stream, peer, request, ...payload)).toBe(NBD_EINVAL);
    }
    expect(ask(stream, peer, FLUSH)).toBe(NBD_EINVAL);
    expect(ask(stream, peer, encodeWrite(0, byte))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(9, 1))).toBe(NBD_OK);
    expect(finish(stream)).toHaveLength(10);
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
