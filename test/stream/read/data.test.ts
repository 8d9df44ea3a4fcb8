import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_EIO,
  NBD_OK,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
} from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import type { Peer } from "../../support/peer.ts";
import { ReadFixture } from "../../support/read-stream.ts";
import { told } from "../../support/told.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const disk = pseudoRandom(6 * MIB + 512);
const FORMS = [
  { form: "simple", structured: false, extended: false },
  { form: "structured", structured: true, extended: false },
  { form: "extended", structured: true, extended: true },
];

/** Reads [from, to) in pieces. */
function readAll(stream: ReadFixture, peer: Peer, from: number, to: number, length: number) {
  const parts: Buffer[] = [];
  for (let at = from; at < to; at += length) {
    const answer = stream.read(peer, at, Math.min(length, to - at));
    expect(answer.error).toBe(NBD_OK);
    parts.push(answer.data);
  }
  return Buffer.concat(parts);
}

describe.each(FORMS)("in $form replies", ({ structured, extended }) => {
  const open = (bytes: Uint8Array, options = {}) => {
    const stream = ReadFixture.of(bytes, options);
    stream.negotiated = { structured, extended };
    return stream;
  };

  test.each([4096, 32 * 1024 - 1, 32 * 1024, 65536, 100_000, MIB, 2 * MIB + 5])(
    "a disk that is read %d bytes at a time is what the source gave",
    (length) => {
      const bytes = disk.subarray(0, length < 10_000 ? 2 * MIB : disk.length);
      using stream = open(bytes);
      const peer = stream.connect();
      expect(readAll(stream, peer, 0, bytes.length, length).equals(bytes)).toBeTrue();
      expect(stream.counters.data).toBe(bytes.length);
      expect(stream.finish().sourceEnded).toBeTrue();
      expect(stream.broken).toBeUndefined();
    },
  );

  test("a READ of 32 MiB is answered whole", () => {
    const bytes = pseudoRandom(32 * MIB);
    using stream = open(bytes);
    expect(stream.read(stream.connect(), 0, bytes.length).data.equals(bytes)).toBeTrue();
  });

  test("READs that are sent all at once are answered in order", () => {
    using stream = open(disk);
    const peer = stream.connect();
    const asked = [];
    let at = 0;
    for (let length = 1; at + length < disk.length; length = (length * 7 + 13) % 300_000) {
      asked.push(stream.ask(peer, at, length));
      at += length;
    }
    const parts = asked.map((one) => stream.answer(peer, one).data);
    expect(Buffer.concat(parts).equals(disk.subarray(0, at))).toBeTrue();
  });

  test.each([
    [0, MIB],
    [MIB - 1, 2],
    [MIB - 100_000, 200_000],
    [0, 3 * MIB],
  ])("a READ at %d of %d bytes may touch or cross what is kept for ever", (offset, length) => {
    using stream = open(disk);
    const peer = stream.connect();
    const want = disk.subarray(offset, offset + length);
    expect(stream.read(peer, offset, length).data.equals(want)).toBeTrue();
    const rest = readAll(stream, peer, offset + length, disk.length, 500_000);
    expect(rest.equals(disk.subarray(offset + length))).toBeTrue();
  });

  test.each([1, 4096, 40_000, 500_000])("jumps ahead pass over data: %d bytes", (length) => {
    using stream = open(disk);
    const peer = stream.connect();
    for (const at of [600_000, 2 * MIB + 7, 3 * MIB, 5 * MIB + 1]) {
      const { data } = stream.read(peer, at, length);
      expect(data.equals(disk.subarray(at, at + length))).toBeTrue();
      expect(stream.counters.emitted).toBe(at + length);
    }
  });

  test("what is kept can be read again, at any time and in any order", () => {
    using stream = open(disk);
    const peer = stream.connect();
    stream.read(peer, 0, 4 * MIB);
    for (const [at, length] of [
      [0, MIB],
      [MIB - 512, 512],
      [70_000, 300_000],
      [5, 1],
    ] as const) {
      const { data } = stream.read(peer, at, length);
      expect(data.equals(disk.subarray(at, at + length))).toBeTrue();
    }
    expect(stream.read(peer, 4 * MIB, 10).data).toEqual(disk.subarray(4 * MIB, 4 * MIB + 10));
    expect(stream.finish("allow").windowNeeded).toBe(0);
  });

  test("what lies in the window can be read again, and the rest breaks the stream", () => {
    using stream = open(disk, { window: MIB });
    const peer = stream.connect();
    stream.read(peer, 0, 4 * MIB);
    for (const [at, length] of [
      [3 * MIB, 10],
      [3 * MIB + 1, MIB - 1],
      [3 * MIB + 500_000, 100_000],
      [4 * MIB - 600_000, MIB],
    ] as const) {
      const { data } = stream.read(peer, at, length);
      expect(data.equals(disk.subarray(at, at + length))).toBeTrue();
    }
    expect(stream.read(peer, 3 * MIB, 10).error).toBe(NBD_EIO);
    expect(stream.broken).toBe("BACKWARD_READ");
    expect(stream.finish("allow").windowNeeded).toBe(MIB);
  });

  test("what has gone by is EIO, and so is everything after that", () => {
    using stream = open(disk);
    const peer = stream.connect();
    stream.read(peer, 0, 3 * MIB);
    const refused = stream.read(peer, MIB - 1, 2);
    expect(refused.error).toBe(NBD_EIO);
    if (structured) {
      expect(refused.message).toStartWith(`NBD_CMD_READ of 2 bytes at ${MIB - 1} lies behind`);
    }
    expect(told(stream.event("broken")?.failure)).toEndWith("; window=2M would have kept this");
    for (const at of [3 * MIB, 0]) expect(stream.read(peer, at, 1).error).toBe(NBD_EIO);
    expect(stream.read(peer, disk.length, 1).error).not.toBe(NBD_OK);
    const other = stream.connect();
    expect(stream.read(other, 3 * MIB, 1).error).toBe(NBD_EIO);
    expect(stream.events.filter((event) => event.type === "broken").length).toBe(1);
  });

  test.each([1, 511, 513, MIB + 3])(
    "a disk of %d bytes ends with zeroes up to the sector",
    (size) => {
      const bytes = disk.subarray(0, size);
      const whole = Math.ceil(size / 512) * 512;
      const want = Buffer.concat([bytes, Buffer.alloc(whole - size)]);
      using stream = open(bytes, { exact: true });
      const peer = stream.connect();
      expect(stream.read(peer, 0, whole).data.equals(want)).toBeTrue();
      expect(stream.counters.emitted).toBe(size);
      expect(stream.counters.zeroes).toBe(0);
      // What is kept for ever can be read again, its tail of zeroes included.
      if (whole > MIB) return;
      expect(stream.read(peer, whole - 512, 512).data.equals(want.subarray(-512))).toBeTrue();
    },
  );

  test("FUA changes nothing", () => {
    using stream = open(disk);
    const { data } = stream.read(stream.connect(), 0, 100, { flags: NBD_CMD_FLAG_FUA });
    expect(data).toEqual(disk.subarray(0, 100));
  });

  test("a READ of nothing succeeds and moves nothing", () => {
    using stream = open(disk);
    const peer = stream.connect();
    for (const at of [0, 5 * MIB, disk.length]) {
      const { error, chunks } = stream.read(peer, at, 0);
      expect(error).toBe(NBD_OK);
      expect(chunks).toEqual(structured ? [{ type: NBD_REPLY_TYPE_NONE, length: 0 }] : []);
    }
    expect(stream.counters.emitted).toBe(0);
  });

  test("the checksum is that of all that went by, jumps and re-reads or not", () => {
    using stream = open(disk, { checksum: "sha256" });
    const peer = stream.connect();
    stream.read(peer, 0, 100_000);
    stream.read(peer, 50_000, 10);
    stream.read(peer, 2 * MIB, 3 * MIB);
    stream.read(peer, disk.length - 512, 512);
    const want = new Bun.CryptoHasher("sha256").update(disk).digest("hex");
    expect(stream.finish().checksum).toBe(want);
  });
});

describe("chunks", () => {
  const open = () => {
    const stream = ReadFixture.of(disk);
    stream.negotiated = { structured: true, allocation: false };
    return stream;
  };

  test("a large READ comes in several, none of them small but the last", () => {
    using stream = open();
    stream.piece = 50_000;
    const { chunks, data } = stream.read(stream.connect(), 0, 5 * MIB);
    expect(data.equals(disk.subarray(0, 5 * MIB))).toBeTrue();
    expect(chunks.length).toBeGreaterThan(1);
    for (const { type, length } of chunks.slice(0, -1)) {
      expect(type).toBe(NBD_REPLY_TYPE_OFFSET_DATA);
      expect(length).toBeGreaterThanOrEqual(64 * 1024);
    }
  });

  test.each([1, 32 * 1024 - 1, 4 * MIB])("with DF a READ of %d bytes is one", (length) => {
    using stream = open();
    stream.piece = 50_000;
    const { chunks, data } = stream.read(stream.connect(), MIB / 2, length, {
      flags: NBD_CMD_FLAG_DF,
    });
    expect(data.equals(disk.subarray(MIB / 2, MIB / 2 + length))).toBeTrue();
    expect(chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_DATA, length }]);
  });

  test("a first part is there before the source has the rest", () => {
    using stream = new ReadFixture({ size: disk.length });
    stream.negotiated = { structured: true, allocation: false };
    stream.feed(disk.subarray(0, 2 * MIB));
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, 4 * MIB);
    stream.until(() => peer.available > 2 * MIB - 65536);
    stream.feed(disk.subarray(2 * MIB));
    expect(stream.answer(peer, asked).data.equals(disk.subarray(0, 4 * MIB))).toBeTrue();
  });
});
