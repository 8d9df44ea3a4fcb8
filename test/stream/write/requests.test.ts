import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_OK,
} from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import { ask, finish, FLUSH, readOf, StreamFixture, zeroes } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";
import { told } from "../../support/told.ts";

setDefaultTimeout(LIMIT);

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
    expect(told(broken[0]?.failure)).toContain("NBD_CMD_WRITE of 1 bytes at 2 ");
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
