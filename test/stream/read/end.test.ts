import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_EIO,
  NBD_OK,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from "../../../src/protocol/constants.ts";
import { TestClock } from "../../support/clock.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { ReadFixture, type ReadOptions } from "../../support/read-stream.ts";
import { told } from "../../support/told.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const disk = pseudoRandom(3 * MIB);

function open(bytes: Uint8Array, structured: boolean, options: ReadOptions = {}): ReadFixture {
  const stream = ReadFixture.of(bytes, options);
  stream.negotiated = { structured, allocation: false };
  return stream;
}

describe.each([false, true])("with structured replies: %p", (structured) => {
  test.each([0, 100, MIB, 2 * MIB + 1])("a source that ends at byte %d is EIO", (end) => {
    using stream = open(disk.subarray(0, end), structured, { size: disk.length });
    const peer = stream.connect();
    expect(stream.read(peer, 0, end).data.equals(disk.subarray(0, end))).toBeTrue();
    const { error, message } = stream.read(peer, end, 100_000);
    expect(error).toBe(NBD_EIO);
    if (structured) expect(message).toContain(`ended at byte ${end} of ${disk.length}`);
    expect(stream.broken).toBe("SOURCE_ENDED");
    expect(stream.read(peer, 0, 1).error).toBe(NBD_EIO);
    expect(stream.finish().sourceEnded).toBeTrue();
    expect(told(stream.event("broken")?.failure)).toContain("--pad");
  });

  test("one that ends in the middle of a READ is EIO, with what had come before", () => {
    using stream = open(disk.subarray(0, 2 * MIB), structured, { size: disk.length });
    const { error, data, chunks } = stream.read(stream.connect(), 0, disk.length);
    expect(error).toBe(NBD_EIO);
    expect(data.equals(disk.subarray(0, data.length))).toBeTrue();
    if (structured) expect(data.length).toBeGreaterThan(2 * MIB - 65536);
    if (structured) expect(chunks.at(-1)?.type).toBe(NBD_REPLY_TYPE_ERROR);
  });

  test("one that ends before a jump has landed is EIO", () => {
    using stream = open(disk.subarray(0, 2 * MIB), structured, { size: disk.length });
    expect(stream.read(stream.connect(), 5 * 512 * 1024, 512).error).toBe(NBD_EIO);
    expect(stream.broken).toBe("SOURCE_ENDED");
  });

  test("one without a size that ends tells which it would have been", () => {
    using stream = open(disk.subarray(0, 1000), structured, { size: undefined });
    const peer = stream.connect();
    expect(stream.read(peer, 0, 512).error).toBe(NBD_OK);
    expect(stream.read(peer, 512, 512).error).toBe(NBD_EIO);
    expect(told(stream.event("broken")?.failure)).toContain("give size=1000");
  });

  test("one without a size is at its end for who asks for no more", () => {
    using stream = open(disk, structured, { size: undefined });
    expect(stream.read(stream.connect(), 0, disk.length).data.equals(disk)).toBeTrue();
    stream.finish("allow");
    expect(stream.broken).toBeUndefined();
  });

  test.each([0, 1, 511, 100_000, MIB + 1, 2 * MIB])(
    "padding is zeroes, from byte %d on, wherever READs begin",
    (end) => {
      const want = Buffer.concat([disk.subarray(0, end), Buffer.alloc(disk.length - end)]);
      for (const length of [99_999, disk.length]) {
        using stream = open(disk.subarray(0, end), structured, { size: disk.length, pad: true });
        const peer = stream.connect();
        for (let at = 0; at < want.length; at += length) {
          const to = Math.min(want.length, at + length);
          expect(stream.read(peer, at, to - at).data.equals(want.subarray(at, to))).toBeTrue();
        }
        stream.finish();
        expect(stream.broken).toBeUndefined();
        expect([stream.counters.data, stream.counters.zeroes]).toEqual([end, disk.length - end]);
      }
    },
  );

  test("a jump into the padding passes over what is before it", () => {
    using stream = open(disk.subarray(0, 2 * MIB), structured, { size: disk.length, pad: true });
    const peer = stream.connect();
    expect(stream.read(peer, 2 * MIB + 512, 512).data).toEqual(Buffer.alloc(512));
    expect([stream.counters.data, stream.counters.zeroes]).toEqual([2 * MIB, 1024]);
    expect(stream.read(peer, 1000, 10).data).toEqual(disk.subarray(1000, 1010));
  });

  test("the checksum of a padded stream counts the padding", () => {
    const checksum = "sha256";
    using stream = open(disk.subarray(0, MIB), structured, { size: 2 * MIB, pad: true, checksum });
    stream.read(stream.connect(), 0, 2 * MIB);
    const want = new Bun.CryptoHasher(checksum).update(disk.subarray(0, MIB));
    expect(stream.finish().checksum).toBe(want.update(Buffer.alloc(MIB)).digest("hex"));
  });

  test("what a source has behind the size is counted, and no error", () => {
    using stream = open(disk, structured, { size: 2 * MIB });
    const { data } = stream.read(stream.connect(), 0, 2 * MIB);
    expect(data.equals(disk.subarray(0, 2 * MIB))).toBeTrue();
    stream.finish();
    expect(stream.broken).toBeUndefined();
    expect(stream.event("surplus")).toMatchObject({ bytes: MIB, more: false });
    expect(stream.counters.emitted).toBe(2 * MIB);
  });

  test("with exact only the READ that reaches the size is EIO when there is more", () => {
    using stream = open(disk, structured, { size: 2 * MIB, exact: true });
    const peer = stream.connect();
    expect(stream.read(peer, 0, 2 * MIB - 512).error).toBe(NBD_OK);
    const { error, message } = stream.read(peer, 2 * MIB - 512, 512);
    expect(error).toBe(NBD_EIO);
    if (structured) expect(message).toContain(`more than ${2 * MIB}`);
    expect(told(stream.event("broken")?.failure)).toContain(
      `more than size=${2 * MIB}, and --exact forbids`,
    );
    expect(stream.broken).toBe("SURPLUS");
    stream.finish();
    expect(stream.event("surplus")?.bytes).toBeUndefined();
  });

  test("with exact the last byte waits until the source is at its end", () => {
    using stream = new ReadFixture({ size: MIB, exact: true });
    stream.negotiated = { structured, allocation: false };
    stream.feed(disk.subarray(0, MIB));
    const peer = stream.connect();
    const asked = stream.ask(peer, MIB - 1000, 1000);
    stream.until(() => stream.written);
    stream.settle();
    expect(peer.available).toBe(0);
    stream.endSource();
    expect(stream.answer(peer, asked).data).toEqual(disk.subarray(MIB - 1000, MIB));
    stream.finish();
    expect(stream.broken).toBeUndefined();
  });

  test("with exact and a size within a sector, the rest of the sector is not had for free", () => {
    using stream = open(disk, structured, { size: 1000, exact: true });
    // Only zeroes are asked for, but the stream reaches its size by that.
    expect(stream.read(stream.connect(), 1000, 24).error).toBe(NBD_EIO);
    expect(stream.broken).toBe("SURPLUS");
  });

  test.each([
    ["well", undefined],
    ["badly", "zstd failed with status 1"],
  ])("the last byte waits until the source's process has ended %s", (_, problem) => {
    using stream = open(disk, structured, { awaitsExit: true });
    const peer = stream.connect();
    expect(stream.read(peer, 0, disk.length - 512).error).toBe(NBD_OK);
    expect(stream.event("source-ended")).toBeUndefined();
    const asked = stream.ask(peer, disk.length - 512, 512);
    stream.until(() => stream.event("source-ended") !== undefined);
    stream.settle();
    expect(peer.available).toBe(0);
    stream.command({ type: "exited", problem });
    const { error, data, message } = stream.answer(peer, asked);
    expect(error).toBe(problem === undefined ? NBD_OK : NBD_EIO);
    if (problem === undefined) expect(data).toEqual(disk.subarray(-512));
    else if (structured) expect(message).toStartWith(problem);
    expect(stream.broken).toBe(problem === undefined ? undefined : "SOURCE_FAILED");
    expect(stream.events.filter((event) => event.type === "source-ended").length).toBe(1);
    stream.finish();
  });

  test.each([
    ["fails", "it failed with status 7", false, "SOURCE_FAILED"],
    ["fails, padding or not", "it failed with status 7", true, "SOURCE_FAILED"],
    ["ends well", undefined, false, "SOURCE_ENDED"],
    ["ends well, with padding", undefined, true, undefined],
  ])("a process that ends too early and %s is told apart", (_, problem, pad, code) => {
    using stream = open(disk.subarray(0, 1000), structured, { size: MIB, awaitsExit: true, pad });
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, 2000);
    stream.until(() => stream.event("source-ended") !== undefined);
    stream.settle();
    expect(peer.available).toBe(0);
    stream.command({ type: "exited", problem });
    expect(stream.answer(peer, asked).error).toBe(code === undefined ? NBD_OK : NBD_EIO);
    expect(stream.broken).toBe(code);
  });

  test("padding is not handed out to another client before the process has ended well", () => {
    using stream = open(disk.subarray(0, 1000), structured, {
      size: MIB,
      awaitsExit: true,
      pad: true,
    });
    const first = stream.connect();
    stream.ask(first, 0, 2000);
    stream.until(() => stream.event("source-ended") !== undefined);
    stream.hangUp(first);
    const peer = stream.connect();
    const asked = stream.ask(peer, 2000, 500);
    stream.until(() => stream.ends.length === 1);
    stream.settle();
    expect(peer.available).toBe(0);
    stream.command({ type: "exited", problem: "it failed" });
    expect(stream.answer(peer, asked).error).toBe(NBD_EIO);
  });
});

describe("padding in chunks", () => {
  test("is a hole where nothing but zeroes is asked for", () => {
    using stream = open(disk.subarray(0, 100_000), true, { size: disk.length, pad: true });
    const peer = stream.connect();
    const { chunks, data } = stream.read(peer, 0, 200_000);
    expect(data.subarray(0, 100_000)).toEqual(disk.subarray(0, 100_000));
    expect(chunks[0]?.type).toBe(NBD_REPLY_TYPE_OFFSET_DATA);
    const hole = stream.read(peer, 200_000, MIB);
    expect(hole.chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length: MIB }]);
    expect(hole.data).toEqual(Buffer.alloc(MIB));
  });
});

describe("the end of the stream", () => {
  test("comes at once when the source has nothing more to say", () => {
    using stream = open(disk, false);
    stream.read(stream.connect(), 0, disk.length);
    expect(stream.finish().sourceEnded).toBeTrue();
    expect(stream.event("surplus")).toBeUndefined();
  });

  test.each(["fail", "allow"] as const)("before the size can %s", (short) => {
    using stream = open(disk, false);
    stream.read(stream.connect(), 0, MIB);
    expect(stream.finish(short).sourceEnded).toBeFalse();
    expect(stream.broken).toBe(short === "fail" ? "TOO_SHORT" : undefined);
    expect(stream.event("surplus")).toBeUndefined();
  });

  test("does not wait for ever for a writer that stays", () => {
    using stream = new ReadFixture({ size: 1000 });
    stream.feed(disk.subarray(0, 1000));
    stream.read(stream.connect(), 0, 1000);
    stream.command({ type: "finish", short: "fail" });
    const deadline = performance.now() + 10_000;
    while (!stream.engine.over && performance.now() < deadline) stream.settle();
    expect(stream.event("ended")).toMatchObject({ sourceEnded: false });
    expect(stream.broken).toBeUndefined();
  });

  test("does not wait for ever for a process that has given too much and stays", () => {
    using stream = new ReadFixture({ size: 1000, awaitsExit: true });
    stream.feed(disk.subarray(0, 2000));
    const { data } = stream.read(stream.connect(), 0, 1024);
    expect(data.subarray(0, 1000)).toEqual(disk.subarray(0, 1000));
    stream.command({ type: "finish", short: "fail" });
    const deadline = performance.now() + 5000;
    while (!stream.engine.over && performance.now() < deadline) stream.settle();
    expect(stream.event("ended")).toMatchObject({ sourceEnded: false });
    expect(stream.event("surplus")).toMatchObject({ bytes: 1000, more: true });
  });

  test("of a source without an end is not looked for further than 64 MiB", () => {
    // It is looked for during a second: none passes.
    using _ = new TestClock();
    using stream = new ReadFixture({ size: 1000 });
    for (let i = 0; i < 80; i++) stream.feed(disk.subarray(0, MIB));
    stream.read(stream.connect(), 0, 1000);
    stream.finish();
    const { bytes, more } = stream.event("surplus") as { bytes: number; more: boolean };
    expect(bytes).toBeWithin(64 * MIB, 66 * MIB);
    expect(more).toBeTrue();
  });
});
