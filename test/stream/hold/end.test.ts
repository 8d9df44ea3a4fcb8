/** How a stream that was held goes out, once its clients are done. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { ERRNO, O_CREAT, O_NONBLOCK, O_RDWR, O_WRONLY } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import { close, open, read } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { pipe } from "../../../ffi/pipe.ts";
import { recv, socketpair } from "../../../ffi/socket.ts";
import type { EndpointHandle } from "../../../src/endpoint/spec.ts";
import {
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { SpoolError } from "../../../src/stream/spool-file.ts";
import { DiskClient } from "../../support/disk-client.ts";
import { HoldFixture, MiB } from "../../support/hold.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { DISC, finish } from "../../support/stream.ts";
import { tempFolder } from "../../support/temp.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const DATA = pseudoRandom(24 * MiB);

function write(client: DiskClient, offset: number, payload: Uint8Array): void {
  const request = { type: NBD_CMD_WRITE, offset, length: payload.length, flags: 0 };
  expect(client.ask(request, payload).error).toBe(0);
}

/** Writes every other one of these pieces of data to its place. @returns the disk */
function writeSparsely(stream: HoldFixture, size: number, piece: number): Buffer {
  const client = new DiskClient(stream);
  const disk = Buffer.alloc(size);
  const count = Math.ceil(size / piece / 2);
  for (let i = 0; i < count; i++) {
    const at = 2 * i * piece;
    DATA.copy(disk, at, at, at + piece);
    const request = { type: NBD_CMD_WRITE, offset: at, length: piece, flags: 0 };
    client.send(request, disk.subarray(at, at + piece));
    if (i % 256 === 255) stream.until(() => client.peer.allSent);
  }
  for (let i = 0; i < count; i++) expect(client.take().error).toBe(0);
  return disk;
}

function zero(client: DiskClient, offset: number, length: number, flags = 0): void {
  expect(client.ask({ type: NBD_CMD_WRITE_ZEROES, offset, length, flags }).error).toBe(0);
}

describe("the disk comes out", () => {
  test("with thousands of small holes", () => {
    const size = 24 * MiB;
    using stream = new HoldFixture({ size });
    const disk = writeSparsely(stream, size, 4 * KiB);
    expect(finish(stream, true).equals(disk)).toBeTrue();
    expect(stream.counters.data + stream.counters.zeroes).toBe(size);
    expect(stream.counters.zeroes).toBeGreaterThan(0);
  });

  test("as zeroes where nobody has written, up to its size", () => {
    using stream = new HoldFixture({ size: 3 * MiB + 17 });
    const client = new DiskClient(stream);
    client.peer.send(DISC);
    expect(finish(stream, true).equals(Buffer.alloc(3 * MiB + 17))).toBeTrue();
    expect(stream.counters.zeroes).toBe(3 * MiB + 17);
  });

  test.each([true, false])("as nothing of an empty disk (padded: %p)", (pad) => {
    using stream = new HoldFixture({ size: 0 });
    new DiskClient(stream).peer.send(DISC);
    expect(finish(stream, pad).length).toBe(0);
    expect(stream.event("ended")).toBeDefined();
  });

  test("up to the last WRITE or WRITE_ZEROES where it has no size", () => {
    using stream = new HoldFixture({ size: UNBOUNDED_SIZE });
    const client = new DiskClient(stream);
    write(client, 100 * KiB, DATA.subarray(0, 100 * KiB));
    zero(client, 300 * KiB, 1000);
    const want = Buffer.alloc(300 * KiB + 1000);
    DATA.copy(want, 100 * KiB, 0, 100 * KiB);
    expect(finish(stream).equals(want)).toBeTrue();
  });

  test("as zeroes where those have room on the disk", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    zero(client, 0, 4 * MiB, NBD_CMD_FLAG_NO_HOLE);
    write(client, 2 * MiB, DATA.subarray(0, 1000));
    const want = Buffer.alloc(4 * MiB);
    DATA.copy(want, 2 * MiB, 0, 1000);
    expect(finish(stream).equals(want)).toBeTrue();
  });

  test("at the pace of its reader, and gives its room on the disk back as it goes", () => {
    using stream = new HoldFixture({ size: 24 * MiB });
    write(new DiskClient(stream), 0, DATA);
    stream.stream.spool.measure();
    expect(stream.counters.spooled).toBeGreaterThanOrEqual(24 * MiB);
    stream.command({ type: "finish", short: "allow" });
    stream.until(() => stream.output.length >= 20 * MiB);
    expect(stream.counters.spooled).toBeLessThanOrEqual(16 * MiB);
    stream.until(() => stream.sawEnd);
    expect(stream.output.equals(DATA)).toBeTrue();
  });
});

/** A sink that is there only when the clients are done, and all that came out of it. */
interface LateSink extends Disposable {
  readonly handle: EndpointHandle;
  output(): Buffer;
}

const scratch = new Memory(1 << 20);

function lateSink(kind: "pipe" | "socket" | "file", path: string): LateSink {
  if (kind === "file") {
    const fd = open(path, O_CREAT | O_WRONLY, 0o600);
    return {
      handle: { kind, name: path, fd },
      output: () => readFileSync(path),
      [Symbol.dispose]() {},
    };
  }
  const chunks: Buffer[] = [];
  const [far, near] =
    kind === "socket" ? socketpair() : ((ends) => [ends.write, ends.read])(pipe(O_NONBLOCK));
  const take = kind === "socket" ? recv : read;
  return {
    handle: { kind, name: kind, fd: far },
    output() {
      for (;;) {
        const n = take(near, scratch.at(0), scratch.length);
        if (n <= 0) return Buffer.concat(chunks);
        chunks.push(Buffer.from(scratch.bytes.subarray(0, n)));
      }
    },
    [Symbol.dispose]: () => close(near),
  };
}

describe.each(["pipe", "socket", "file"] as const)("a sink that comes late, a %s,", (kind) => {
  test("gets the disk", () => {
    using folder = tempFolder();
    using sink = lateSink(kind, folder.file("sink"));
    using stream = new HoldFixture({ size: 20 * MiB, late: true });
    const client = new DiskClient(stream);
    const disk = Buffer.alloc(20 * MiB);
    for (const at of [15 * MiB, 0, 5 * MiB + 77]) {
      DATA.copy(disk, at, at, at + 3 * MiB);
      write(client, at, disk.subarray(at, at + 3 * MiB));
    }
    client.peer.send(DISC);
    stream.settle();
    expect(stream.event("endpoint-open")).toBeUndefined();
    stream.command({ type: "sink", endpoint: sink.handle });
    stream.command({ type: "finish", short: "pad" });
    stream.until(() => {
      if (kind !== "file") sink.output();
      return stream.engine.over;
    });
    expect(stream.broken).toBeUndefined();
    const output = sink.output();
    expect(output.length).toBe(20 * MiB);
    expect(output.equals(disk)).toBeTrue();
    if (kind === "file") {
      expect(statSync(folder.file("sink")).blocks * 512).toBeLessThan(12 * MiB);
    }
  });
});

describe("a stream that goes out for long", () => {
  test("lets signals in, though a file takes everything at once", () => {
    using folder = tempFolder();
    using sink = lateSink("file", folder.file("sink"));
    using stream = new HoldFixture({ size: 24 * MiB, late: true });
    writeSparsely(stream, 24 * MiB, 4 * KiB);
    stream.command({ type: "sink", endpoint: sink.handle });
    stream.command({ type: "finish", short: "pad" });
    stream.turns(3);
    expect(stream.counters.emitted).toBeGreaterThan(0);
    expect(stream.counters.emitted).toBeLessThan(12 * MiB);
    stream.command({ type: "abort" });
    stream.turns(3);
    expect(stream.engine.over).toBeTrue();
    expect(stream.counters.emitted).toBeLessThan(20 * MiB);
  });
});

describe("a stream that goes out is broken", () => {
  test("by a reader that leaves before it has all", () => {
    using stream = new HoldFixture();
    write(new DiskClient(stream), 0, DATA.subarray(0, 8 * MiB));
    stream.command({ type: "finish", short: "allow" });
    stream.until(() => stream.output.length > 0);
    stream.closeReader();
    stream.until(() => stream.engine.over);
    expect(stream.broken).toBe("READER_GONE");
  });

  test("by a reader that leaves before it has anything, while clients still write", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    write(client, 0, DATA.subarray(0, 1000));
    stream.closeReader();
    stream.until(() => stream.broken !== undefined);
    expect(stream.broken).toBe("READER_GONE");
    const request = { type: NBD_CMD_WRITE, offset: 0, length: 10, flags: 0 };
    expect(client.ask(request, DATA.subarray(0, 10)).error).toBe(108);
  });

  test.each(["dataAt", "give", "seek"] as const)("by a spool that fails (%s)", (method) => {
    using stream = new HoldFixture();
    write(new DiskClient(stream), MiB, DATA.subarray(0, 8 * MiB));
    Object.assign(stream.stream.spool, {
      [method]: () => {
        throw new SpoolError(new SyscallError(method, ERRNO.EIO));
      },
    });
    stream.command({ type: "finish", short: "allow" });
    stream.until(() => stream.engine.over);
    expect(stream.broken).toBe("SPOOL_FAILED");
    expect(stream.output.length).toBeLessThanOrEqual(MiB);
  });

  test("by a spool whose data is gone, which is never taken for its end", () => {
    using folder = tempFolder();
    const fd = open(folder.file("spool"), O_CREAT | O_RDWR, 0o600);
    using stream = new HoldFixture({ fd });
    write(new DiskClient(stream), 0, DATA.subarray(0, MiB));
    const { spool } = stream.stream;
    const dataAt = spool.dataAt.bind(spool);
    // The file is empty by the time that its data is wanted.
    Object.assign(spool, { dataAt: () => [true, 2 * MiB] satisfies ReturnType<typeof dataAt> });
    stream.command({ type: "finish", short: "pad" });
    stream.until(() => stream.engine.over);
    expect(stream.broken).toBe("SPOOL_FAILED");
    expect(stream.output.length).toBeLessThanOrEqual(MiB);
  });
});
