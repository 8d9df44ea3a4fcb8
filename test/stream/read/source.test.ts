import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { unlinkSync, writeFileSync } from "node:fs";
import { F_SETPIPE_SZ, O_NONBLOCK, O_RDONLY } from "../../../ffi/constants.ts";
import { close, open, read, seekBy } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { Memory } from "../../../ffi/memory.ts";
import { pipe } from "../../../ffi/pipe.ts";
import { PollSet } from "../../../ffi/poll.ts";
import { socketpair } from "../../../ffi/socket.ts";
import { PipeSource } from "../../../src/endpoint/sources/pipe-source.ts";
import { RelayedSource } from "../../../src/endpoint/sources/relayed-source.ts";
import { NBD_EIO, NBD_OK } from "../../../src/protocol/constants.ts";
import { writeAll } from "../../ffi/descriptors.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { ReadFixture } from "../../support/read-stream.ts";
import { tempFolder } from "../../support/temp.ts";
import { told } from "../../support/told.ts";

setDefaultTimeout(LIMIT);

const MIB = 1024 * 1024;
const disk = pseudoRandom(4 * MIB);

/** Every kind of source that gives `bytes`. */
const SOURCES: Record<string, (bytes: Uint8Array) => Disposable & { stream: ReadFixture }> = {
  FIFO: (bytes) => whole(ReadFixture.of(bytes)),
  pipe(bytes) {
    const ends = pipe(O_NONBLOCK);
    const source = { source: new PipeSource("a pipe", ends.read), writer: ends.write };
    return whole(ReadFixture.of(bytes, { source }));
  },
  socket(bytes) {
    const [near, far] = socketpair();
    const source = { source: new RelayedSource("a socket", far, true), writer: near };
    return whole(ReadFixture.of(bytes, { source }));
  },
  file(bytes) {
    const folder = tempFolder();
    writeFileSync(folder.file("disk"), bytes);
    const fd = open(folder.file("disk"), O_RDONLY);
    const source = { source: new RelayedSource("a file", fd, false), writer: -1 };
    const stream = new ReadFixture({ size: bytes.length, source });
    return whole(stream, () => folder[Symbol.dispose]());
  },
};

function whole(stream: ReadFixture, cleanUp = () => {}) {
  return {
    stream,
    [Symbol.dispose]() {
      stream[Symbol.dispose]();
      cleanUp();
    },
  };
}

describe.each(Object.keys(SOURCES))("a %s", (kind) => {
  const openSource = SOURCES[kind] as (typeof SOURCES)[string];

  test.each([false, true])("is read whole, in chunks or not: %p", (structured) => {
    using opened = openSource(disk);
    const { stream } = opened;
    stream.negotiated = { structured, allocation: false };
    const peer = stream.connect();
    for (let at = 0; at < disk.length; at += 300_000) {
      const length = Math.min(300_000, disk.length - at);
      const { data } = stream.read(peer, at, length);
      expect(data.equals(disk.subarray(at, at + length))).toBeTrue();
    }
    expect(stream.finish().sourceEnded).toBeTrue();
    expect(stream.broken).toBeUndefined();
    expect(stream.event("surplus")).toBeUndefined();
  });

  test("is passed over", () => {
    using opened = openSource(disk);
    const { data } = opened.stream.read(opened.stream.connect(), 3 * MIB, MIB);
    expect(data.equals(disk.subarray(3 * MIB))).toBeTrue();
  });
});

describe("a file that cannot be spliced from", () => {
  test.each([4096, 65536, 1 << 20])("is read whole by a pipe of %d bytes", (capacity) => {
    const memory = new Memory(disk);
    // proc(5): gives as much at a time as is asked for, but not to splice(2).
    const fd = open("/proc/self/mem", O_RDONLY);
    seekBy(fd, Number(memory.at(0)));
    const source = new RelayedSource("a file", fd, false);
    using stream = new ReadFixture({ size: disk.length, source: { source, writer: -1 } });
    const peer = stream.connect();
    stream.until(() => source.pipe >= 0);
    expect(libc.fcntl(source.pipe, F_SETPIPE_SZ, capacity)).toBe(capacity);
    for (let at = 0; at < disk.length; at += 300_000) {
      const part = Buffer.from(memory.bytes.subarray(at, at + 300_000));
      expect(stream.read(peer, at, part.length).data.equals(part)).toBeTrue();
    }
  });
});

describe("a slow source", () => {
  test.each([false, true])("may give one byte at a time, structured: %p", (structured) => {
    const bytes = disk.subarray(0, 3000);
    using stream = ReadFixture.of(bytes);
    stream.negotiated = { structured, allocation: false };
    stream.piece = 1;
    const peer = stream.connect();
    expect(stream.read(peer, 0, 1000).data).toEqual(bytes.subarray(0, 1000));
    expect(stream.read(peer, 1500, 1500).data).toEqual(bytes.subarray(1500));
  });

  test.each([false, true])("may give small pieces beyond what is kept: %p", (structured) => {
    using stream = ReadFixture.of(disk.subarray(0, MIB + 200_000));
    stream.negotiated = { structured, allocation: false };
    const peer = stream.connect();
    stream.read(peer, 0, MIB);
    stream.piece = 701;
    const { data } = stream.read(peer, MIB, 200_000);
    expect(data.equals(disk.subarray(MIB, MIB + 200_000))).toBeTrue();
  });

  test.each([1000, 100_000, 3 * MIB])("holds up a READ of %d bytes until it goes on", (length) => {
    using stream = ReadFixture.of(disk);
    stream.stalled = true;
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, length);
    stream.settle();
    expect(peer.available).toBe(0);
    stream.stalled = false;
    expect(stream.answer(peer, asked).data.equals(disk.subarray(0, length))).toBeTrue();
  });

  test("that has no writer yet is waited for", () => {
    using stream = new ReadFixture({ size: disk.length, writer: false });
    stream.feed(disk);
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, 1000);
    stream.settle();
    expect(stream.event("endpoint-open")).toBeUndefined();
    stream.openWriter();
    expect(stream.answer(peer, asked).data).toEqual(disk.subarray(0, 1000));
    expect(stream.event("endpoint-open")).toBeDefined();
  });

  test("is not polled while nobody reads, though its writer has gone", () => {
    using stream = ReadFixture.of(disk.subarray(0, 1000));
    stream.until(() => stream.written);
    stream.settle();
    const waits = spyOn(PollSet.prototype, "wait");
    try {
      stream.engine.turn(50);
      // Nothing is reported, not even by the last one, which sleeps until its time is over.
      expect(new Set(waits.mock.results.map(({ value }) => value))).toEqual(new Set([0]));
      expect(waits.mock.lastCall).toEqual([50]);
    } finally {
      waits.mockRestore();
    }
  });
});

describe("a source that fails", () => {
  test.each([1, 100_000])("is EIO to a READ of %d bytes that waits for it", (length) => {
    const folder = tempFolder();
    using _ = folder;
    using stream = new ReadFixture({ size: disk.length, writer: false });
    const peer = stream.connect();
    const other = stream.connect();
    stream.negotiated = { structured: false, allocation: false };
    // Somebody has put a file in the FIFO's place.
    unlinkSync(stream.path);
    writeFileSync(stream.path, "x");
    const asked = stream.ask(peer, 0, length);
    const waiting = stream.ask(other, 0, length);
    expect(stream.answer(peer, asked).error).toBe(NBD_EIO);
    expect(stream.answer(other, waiting).error).toBe(NBD_EIO);
    expect(stream.broken).toBe("SOURCE_FAILED");
    expect(told(stream.event("broken")?.failure)).toContain(`${stream.path} failed (`);
    stream.finish();
  });

  test("in the middle of a READ tells its client by an error, and the others too", () => {
    const [near, far] = socketpair();
    const source = { source: new RelayedSource("a socket", far, true), writer: -1 };
    using stream = new ReadFixture({ size: disk.length, source });
    stream.negotiated = { structured: true, allocation: false };
    const peer = stream.connect();
    const asked = stream.ask(peer, 0, 1000);
    stream.settle();
    // What has not been received there makes it a reset here.
    const byte = new Memory(1);
    expect(read(near, byte.at(0), 1)).toBe(-1);
    close(near);
    const { error, message } = stream.answer(peer, asked);
    expect(error).toBe(NBD_EIO);
    expect(message).toMatch(/^a socket (failed|ended at byte 0)/);
  });

  test.each([
    { what: "without a size", size: undefined, broken: "SOURCE_FAILED" },
    { what: "at its size, with exact", size: 1000, exact: true, broken: "SOURCE_FAILED" },
    { what: "at its size", size: 1000, broken: undefined },
  ])("by a reset behind the last byte, $what, ends as $broken", ({ broken, ...options }) => {
    const [near, far] = socketpair();
    const source = { source: new RelayedSource("a socket", far, true), writer: -1 };
    using stream = new ReadFixture({ ...options, awaitsExit: options.size === undefined, source });
    writeAll(near, disk.subarray(0, 1000));
    const peer = stream.connect();
    // The last byte may have to wait for the end.
    expect(stream.read(peer, 0, 999).error).toBe(NBD_OK);
    if (options.exact !== true) expect(stream.read(peer, 999, 1).error).toBe(NBD_OK);
    else stream.ask(peer, 999, 1);
    writeAll(far, Buffer.from("never read, and so a reset"));
    close(near);
    stream.settle();
    stream.finish("allow");
    expect(stream.broken).toBe(broken);
  });

  test("because somebody else reads from it, in a reply under way, cuts the connection", () => {
    using stream = new ReadFixture({ size: 20 * MIB });
    const robber = open(stream.path, O_RDONLY | O_NONBLOCK);
    stream.negotiated = { structured: true, allocation: false };
    stream.feed(disk.subarray(0, MIB));
    const peer = stream.connect();
    stream.read(peer, 0, MIB);
    for (let i = 0; i < 4; i++) stream.feed(disk);
    stream.settle();
    peer.deaf = true;
    stream.ask(peer, MIB, 16 * MIB);
    stream.settle();
    stream.stalled = true;
    // The socket is full and the reply announced; what is left of it goes another way.
    const stolen = new Memory(MIB);
    expect(read(robber, stolen.at(0), MIB)).toBeGreaterThan(0);
    close(robber);
    peer.deaf = false;
    stream.until(() => peer.finished);
    expect(stream.ends).toEqual(["cut"]);
    expect(stream.broken).toBe("SOURCE_FAILED");
    expect(told(stream.event("broken")?.failure)).toContain("somebody else reads from it");
    expect(peer.available).toBeLessThan(16 * MIB);
    expect(stream.read(stream.connect(), 0, 1).error).toBe(NBD_EIO);
  });
});

test("a source that clients have not read to its end is told by EPIPE", () => {
  using stream = ReadFixture.of(disk);
  expect(stream.read(stream.connect(), 0, 1000).error).toBe(NBD_OK);
  expect(stream.finish("allow").sourceEnded).toBeFalse();
  stream.until(() => stream.written);
});
