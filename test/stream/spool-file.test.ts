import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fstatSync } from "node:fs";
import { ERRNO } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { Memory, pageSize } from "../../ffi/memory.ts";
import { growPipe, splice } from "../../ffi/pipe.ts";
import { shutdownWrite } from "../../ffi/socket.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { Counters } from "../../src/stream/counters.ts";
import { SpoolError, SpoolFile } from "../../src/stream/spool-file.ts";
import { Descriptors, readAll, thrownBy, writeAll } from "../ffi/descriptors.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const DATA = pseudoRandom(4 * MiB, 3);

/** What is given back is a multiple of this: the most pages that the kernel keeps as one. */
const UNIT = 2048 * pageSize();

/** A spool in TMPDIR. */
class TestSpool extends Descriptors {
  readonly #folder = tempFolder();
  readonly counters = new Counters();
  readonly file: SpoolFile;

  constructor(can: { punches?: boolean; zeroesInPlace?: boolean } = {}) {
    super();
    const folder = this.#folder.path;
    this.file = new SpoolFile({ ...makeUnnamed(folder, true), ...can, folder }, this.counters);
  }

  write(at: number, bytes: Uint8Array): void {
    this.file.write(at, new Memory(bytes).at(0), bytes.length);
  }

  read(at: number, length: number): Buffer {
    const memory = new Memory(Buffer.alloc(length + 20, 9));
    this.file.read(at, memory, 10, length);
    expect([...memory.bytes.subarray(0, 10), ...memory.bytes.subarray(length + 10)]).toEqual(
      Array.from({ length: 20 }, () => 9),
    );
    return Buffer.from(memory.bytes.subarray(10, length + 10));
  }

  /** Bytes on the disk. */
  get taken(): number {
    return fstatSync(this.file.fd).blocks * 512;
  }

  override [Symbol.dispose](): void {
    this.file.close();
    super[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

const same = (one: Uint8Array, other: Uint8Array) => Buffer.compare(one, other) === 0;

test("what was written is read back, and zeroes where nothing was", () => {
  using spool = new TestSpool();
  spool.write(3 * MiB + 5, DATA.subarray(0, 70_000));
  spool.write(100, DATA.subarray(0, 50));
  expect(same(spool.read(3 * MiB + 5, 70_000), DATA.subarray(0, 70_000))).toBeTrue();
  const around = Buffer.concat([Buffer.alloc(100), DATA.subarray(0, 50), Buffer.alloc(50)]);
  expect(same(spool.read(0, 200), around)).toBeTrue();
  const last = Buffer.concat([DATA.subarray(69_990, 70_000), Buffer.alloc(90)]);
  expect(same(spool.read(3 * MiB + 5 + 69_990, 100), last)).toBeTrue();
  expect(same(spool.read(10 * MiB, 100), Buffer.alloc(100))).toBeTrue();
});

describe("from a socket", () => {
  test("bytes go to a position without coming into memory", () => {
    using spool = new TestSpool();
    const [client, server] = spool.socketpair();
    let at = 5 * MiB;
    for (let done = 0; done < 200_000; done += 50_000) {
      writeAll(client, DATA.subarray(done, done + 50_000));
      for (let left = 50_000; left > 0;) {
        const n = spool.file.fill(server, left);
        expect(n).toBeGreaterThan(0);
        spool.file.store(at);
        at += n;
        left -= n;
      }
    }
    expect(spool.file.fill(server, 100)).toBe(WOULD_BLOCK);
    shutdownWrite(client);
    expect(spool.file.fill(server, 100)).toBe(0);
    expect(same(spool.read(5 * MiB, 200_000), DATA.subarray(0, 200_000))).toBeTrue();
  });

  test("no more bytes are taken than were asked for", () => {
    using spool = new TestSpool();
    const [client, server] = spool.socketpair();
    writeAll(client, DATA.subarray(0, 1000));
    expect(spool.file.fill(server, 400)).toBe(400);
    spool.file.store(0);
    expect(readAll(server).length).toBe(600);
  });
});

test("a sink gets what is there from a position on, and never less than was written", () => {
  using spool = new TestSpool();
  const { read, write } = spool.pipe();
  spool.write(MiB, DATA.subarray(0, 10_000));
  spool.file.seek(MiB + 1000);
  let given = 0;
  while (given < 9000) given += spool.file.give((fd) => splice(fd, write, 9000 - given));
  expect(same(readAll(read), DATA.subarray(1000, 10_000))).toBeTrue();
  expect(spool.file.give(() => WOULD_BLOCK)).toBe(WOULD_BLOCK);
  // There is nothing more: somebody has made the file shorter.
  const error = thrownBy(() => spool.file.give((fd) => splice(fd, write, 100)));
  expect(error).toBeInstanceOf(SpoolError);
  expect((error as SpoolError).cause.errno).toBe(ERRNO.EIO);
});

test("what the sink throws is the sink's, and every call on the file that fails is the spool's", () => {
  using spool = new TestSpool();
  const { file } = spool;
  const memory = new Memory(10);
  file.close();
  const calls: Record<string, () => unknown> = {
    write: () => file.write(0, memory.at(0), 10),
    read: () => file.read(0, memory, 0, 10),
    punch: () => file.punch(0, 4096),
    seek: () => file.seek(0),
    dataAt: () => file.dataAt(0),
    give: () => file.give((fd) => splice(fd, 1, 10)),
  };
  for (const [name, call] of Object.entries(calls)) {
    expect(thrownBy(call), name).toBeInstanceOf(SpoolError);
  }
  class OfSink extends Error {}
  const failing = () => {
    throw new OfSink();
  };
  expect(thrownBy(() => file.give(failing))).toBeInstanceOf(OfSink);
  file.close();
});

describe("the room on the disk", () => {
  test("is counted, with the most that there was, though not for each byte", () => {
    using spool = new TestSpool();
    spool.write(0, DATA.subarray(0, 4096));
    expect(spool.counters.spooled).toBe(0);
    spool.write(64 * MiB, DATA);
    expect(spool.counters.spooled).toBe(spool.taken);
    expect(spool.counters.spooled).toBeGreaterThanOrEqual(4 * MiB);
    spool.file.punch(64 * MiB, 4 * MiB);
    expect(spool.counters.spooled).toBe(spool.taken);
    expect(spool.counters.spooled).toBeLessThan(MiB);
    expect(spool.counters.mostSpooled).toBeGreaterThanOrEqual(4 * MiB);
  });

  test("of what has been streamed is given back, in whole units, once for each", () => {
    using spool = new TestSpool();
    const length = 2 * UNIT + 3 * MiB;
    for (let at = 0; at < length; at += MiB) spool.write(at, DATA.subarray(0, MiB));
    const all = spool.taken;
    expect(all).toBeGreaterThanOrEqual(length);
    spool.file.release(UNIT - 1);
    expect(spool.taken).toBe(all);
    spool.file.release(UNIT + 5);
    expect(all - spool.taken).toBeGreaterThanOrEqual(UNIT);
    expect(same(spool.read(UNIT, MiB), DATA.subarray(0, MiB))).toBeTrue();
    expect(same(spool.read(UNIT - MiB, MiB), Buffer.alloc(MiB))).toBeTrue();
    // What is written behind that stays, even if it is said again.
    spool.write(0, DATA.subarray(0, 4096));
    spool.file.release(UNIT + MiB);
    expect(same(spool.read(0, 4096), DATA.subarray(0, 4096))).toBeTrue();
    spool.file.release(length);
    expect(spool.taken).toBeLessThanOrEqual(all - 2 * UNIT + MiB);
    expect(same(spool.read(2 * UNIT, MiB), DATA.subarray(0, MiB))).toBeTrue();
    expect(spool.counters.spooled).toBe(spool.taken);
  });

  test("stays taken where the file system has no holes", () => {
    using spool = new TestSpool({ punches: false });
    for (let at = 0; at < UNIT; at += MiB) spool.write(at, DATA.subarray(0, MiB));
    spool.file.release(UNIT);
    expect(same(spool.read(0, MiB), DATA.subarray(0, MiB))).toBeTrue();
  });
});

/** Fills a pipe from the file, from a position up to another. @returns where the pipe was full */
function fillFrom(spool: TestSpool, pipe: number, from: number, to: number): number {
  spool.file.seek(from);
  let at = from;
  while (at < to) {
    const n = spool.file.give((fd) => splice(fd, pipe, to - at));
    if (n === WOULD_BLOCK) return at;
    at += n;
    spool.file.release(at);
  }
  return at;
}

describe("what is in a pipe stays as it is", () => {
  const LENGTH = 3 * UNIT;
  const whole = pseudoRandom(LENGTH, 8);

  function filled(): { spool: TestSpool; read: number; write: number } {
    const spool = new TestSpool();
    const { read, write } = spool.pipe();
    growPipe(write);
    for (let at = 0; at < LENGTH; at += 4 * MiB) spool.write(at, whole.subarray(at, at + 4 * MiB));
    return { spool, read, write };
  }

  test("while what it comes from is given back", () => {
    const { spool, read, write } = filled();
    using _ = spool;
    let at = 0;
    while (at < LENGTH) {
      const end = fillFrom(spool, write, at, LENGTH);
      const out = readAll(read);
      expect(out.length).toBe(end - at);
      // Not toEqual, which would print it all.
      expect(same(out, whole.subarray(at, end)), `${at} to ${end}`).toBeTrue();
      at = end;
    }
    expect(spool.taken).toBeLessThanOrEqual(MiB);
  });

  test("while what lies beside it is written and zeroed", () => {
    const { spool, read, write } = filled();
    using _ = spool;
    const start = UNIT - 100 * KiB - 700;
    const end = fillFrom(spool, write, start, UNIT - 1000);
    expect(end).toBe(UNIT - 1000);
    spool.write(end, DATA.subarray(0, 5000));
    spool.file.punch(end + 3000, 2 * MiB);
    spool.file.punch(end, 50);
    spool.file.punch(start - 100_000, 100_000);
    expect(same(readAll(read), whole.subarray(start, end))).toBeTrue();
  });
});

describe("zeroes", () => {
  const around = (spool: TestSpool) => {
    spool.write(0, DATA.subarray(0, 3 * MiB));
    return (at: number, length: number) => {
      const want = Buffer.from(DATA.subarray(0, 3 * MiB));
      want.fill(0, at, at + length);
      expect(same(spool.read(0, 3 * MiB), want)).toBeTrue();
    };
  };

  test.each([
    ["by holes", {}],
    ["without holes", { punches: false, zeroesInPlace: false }],
    ["with holes only", { zeroesInPlace: false }],
    ["with zeroes in place only", { punches: false }],
  ])("take the place of data, with room on the disk or without: %s", (_, can) => {
    for (const room of [true, false]) {
      using spool = new TestSpool(can);
      const expectZeroes = around(spool);
      const [start, end] = [100_001, 2 * MiB + 77];
      for (let at = start; at < end;) {
        const n = Number(spool.file.zero(at, end - at, room));
        expect(n).toBeGreaterThan(0);
        expect(n).toBeLessThanOrEqual(end - at);
        at += n;
      }
      expectZeroes(start, end - start);
      if (room) expect(spool.taken).toBeGreaterThanOrEqual(3 * MiB);
    }
  });

  test("are a hole where they need no room", () => {
    using spool = new TestSpool();
    spool.write(0, DATA.subarray(0, 3 * MiB));
    expect(spool.file.zero(MiB, MiB, false)).toBe(MiB);
    expect(spool.file.dataAt(0)).toEqual([true, MiB]);
    expect(spool.file.dataAt(MiB + 10)).toEqual([false, 2 * MiB]);
    expect(spool.file.dataAt(2 * MiB)).toEqual([true, 3 * MiB]);
    expect(spool.file.dataAt(3 * MiB)).toEqual([false, undefined]);
  });
});
