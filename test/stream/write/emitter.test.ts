import { describe, expect, test } from "bun:test";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { growPipe } from "../../../ffi/pipe.ts";
import { ChecksumSink } from "../../../src/endpoint/sinks/checksum-sink.ts";
import { createSink } from "../../../src/endpoint/sinks/create.ts";
import type { Sink } from "../../../src/endpoint/sinks/sink.ts";
import { makeUnnamed } from "../../../src/files/unnamed.ts";
import { Counters } from "../../../src/stream/counters.ts";
import { SpoolFile } from "../../../src/stream/spool-file.ts";
import { Emitter } from "../../../src/stream/write/emitter.ts";
import { Descriptors, readAll } from "../../ffi/descriptors.ts";
import { pseudoRandom } from "../../support/images.ts";
import { tempFolder } from "../../support/temp.ts";

const MiB = 1 << 20;
const FILE = pseudoRandom(8 * MiB, 1);
const BYTES = pseudoRandom(3 * MiB, 2);

/** A queue, a file, and the other end of the sink. */
class Queue extends Descriptors {
  readonly #folder = tempFolder();
  readonly counters = new Counters();
  readonly file = new SpoolFile(
    { ...makeUnnamed(this.#folder.path, true), folder: this.#folder.path },
    this.counters,
  );
  readonly emitter: Emitter;
  readonly #bytes = new Memory(BYTES);
  readonly #out: number;

  constructor(kind: "pipe" | "socket" | "checksum") {
    super();
    let sink: Sink;
    if (kind === "socket") {
      const [near, far] = this.socketpair();
      sink = createSink({ kind: "socket", name: "", fd: near });
      this.release(near);
      this.#out = far;
    } else {
      const { read, write } = this.pipe();
      growPipe(write);
      sink = createSink({ kind: "pipe", name: "", fd: write });
      if (kind === "checksum") sink = new ChecksumSink(sink, "sha256");
      this.release(write);
      this.#out = read;
    }
    this.emitter = new Emitter(sink, this.counters);
    this.emitter.ready = sink.open();
    this.file.write(0, new Memory(FILE).at(0), FILE.length);
  }

  pushBytes(from: number, to: number): void {
    this.emitter.pushBytes(this.#bytes.at(from), to - from);
  }

  /** What has come out so far. */
  take(): Buffer {
    return readAll(this.#out);
  }

  get readable(): number {
    return bytesReadable(this.#out);
  }

  /** Emits all that is queued. @returns it */
  emitted(): Buffer {
    const parts: Buffer[] = [];
    for (let turns = 0; turns < 10_000; turns++) {
      const done = this.emitter.flush();
      parts.push(this.take());
      if (done) break;
      this.emitter.ready = true;
    }
    expect(this.emitter.idle).toBeTrue();
    return Buffer.concat(parts);
  }

  override [Symbol.dispose](): void {
    this.emitter.sink.close();
    this.file.close();
    super[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

const same = (one: Uint8Array, ...others: Uint8Array[]) =>
  Buffer.compare(one, Buffer.concat(others)) === 0;

describe.each(["pipe", "socket", "checksum"] as const)("into a sink by %s", (kind) => {
  test("zeroes come first, then what is in a file, then what is in memory", () => {
    using queue = new Queue(kind);
    const { emitter, counters } = queue;
    emitter.pushZeroes(2 * MiB);
    emitter.pushFile(queue.file, 12_345, 5 * MiB);
    queue.pushBytes(0, 1000);
    queue.pushBytes(1000, BYTES.length);
    expect(emitter.idle).toBeFalse();
    expect(emitter.backlog).toBe(7 * MiB + BYTES.length);
    const file = FILE.subarray(12_345, 12_345 + 5 * MiB);
    expect(same(queue.emitted(), Buffer.alloc(2 * MiB), file, BYTES)).toBeTrue();
    expect([counters.zeroes, counters.data]).toEqual([2 * MiB, 5 * MiB + BYTES.length]);
    expect([emitter.backlog, emitter.accepted]).toEqual([0, BYTES.length]);
  });

  test("nothing of what is in memory is accepted before the sink has all of the file", () => {
    using queue = new Queue(kind);
    const { emitter } = queue;
    emitter.pushFile(queue.file, 0, FILE.length);
    queue.pushBytes(0, 1000);
    let out = 0;
    while (!emitter.flush()) {
      expect(emitter.ready).toBeFalse();
      expect(emitter.accepted).toBeLessThanOrEqual(0);
      expect(queue.counters.emitted).toBeLessThanOrEqual(out + queue.readable);
      out += queue.take().length;
      emitter.ready = true;
    }
    expect(emitter.accepted).toBe(1000);
    expect(out + queue.take().length).toBe(FILE.length + 1000);
  });

  test("pieces of a file follow each other", () => {
    using queue = new Queue(kind);
    const out: Buffer[] = [];
    for (const [at, length] of [
      [MiB, 3 * MiB],
      [100, 50],
      [4 * MiB, 3 * MiB],
    ] as const) {
      queue.emitter.pushFile(queue.file, at, length);
      out.push(queue.emitted());
    }
    const parts = [FILE.subarray(MiB, 4 * MiB), FILE.subarray(100, 150)];
    expect(same(Buffer.concat(out), ...parts, FILE.subarray(4 * MiB, 7 * MiB))).toBeTrue();
  });
});

test("what the sink has taken of a file is given back, up to a whole unit", () => {
  using queue = new Queue("pipe");
  queue.emitter.pushFile(queue.file, 0, FILE.length);
  queue.emitted();
  const memory = new Memory(MiB);
  queue.file.read(0, memory, 0, MiB);
  expect(same(memory.bytes, Buffer.alloc(MiB))).toBeTrue();
});

test("other connections have their turn in a file of any length", () => {
  using queue = new Queue("pipe");
  const { emitter } = queue;
  const sink = Object.assign(Object.create(emitter.sink) as Sink, { spliceFile: () => MiB });
  const quick = new Emitter(sink, queue.counters);
  quick.ready = true;
  quick.pushFile(queue.file, 0, 100 * MiB);
  expect([quick.flush(), quick.ready, quick.backlog]).toEqual([false, true, 36 * MiB]);
  expect([quick.flush(), quick.ready, quick.backlog]).toEqual([true, true, 0]);
});

describe("bytes without a reply are dropped with their client,", () => {
  test("but not what is in the file before them, nor the zeroes before that", () => {
    using queue = new Queue("pipe");
    const { emitter } = queue;
    emitter.pushZeroes(1000);
    emitter.pushFile(queue.file, 0, 2000);
    emitter.markAnswered();
    queue.pushBytes(0, 3000);
    expect(emitter.dropUnanswered()).toEqual({ gap: 0, bytes: 3000 });
    expect(same(queue.emitted(), Buffer.alloc(1000), FILE.subarray(0, 2000))).toBeTrue();
  });

  test("and not what came out of memory with its reply", () => {
    using queue = new Queue("pipe");
    const { emitter } = queue;
    emitter.pushZeroes(1000);
    queue.pushBytes(0, 2000);
    emitter.markAnswered();
    queue.pushBytes(2000, 3000);
    expect(emitter.dropUnanswered()).toEqual({ gap: 0, bytes: 1000 });
    expect(same(queue.emitted(), Buffer.alloc(1000), BYTES.subarray(0, 2000))).toBeTrue();
  });

  test("with the zeroes before them", () => {
    using queue = new Queue("pipe");
    const { emitter } = queue;
    emitter.pushZeroes(1000);
    queue.pushBytes(0, 3000);
    expect(emitter.dropUnanswered()).toEqual({ gap: 1000, bytes: 3000 });
    expect(emitter.idle).toBeTrue();
  });

  test("except for those that the sink has", () => {
    using queue = new Queue("pipe");
    const { emitter } = queue;
    queue.pushBytes(0, BYTES.length);
    expect(emitter.flush()).toBeFalse();
    const taken = queue.readable;
    expect(emitter.dropUnanswered()).toEqual({ gap: 0, bytes: BYTES.length - taken });
    expect(same(queue.take(), BYTES.subarray(0, taken))).toBeTrue();
  });
});

test("when all is dropped, nothing of a file comes any more", () => {
  using queue = new Queue("pipe");
  const { emitter } = queue;
  emitter.pushZeroes(10);
  emitter.pushFile(queue.file, 0, 1000);
  queue.pushBytes(0, 1000);
  emitter.clear();
  expect([emitter.idle, emitter.backlog, emitter.ready]).toEqual([true, 0, false]);
  emitter.ready = true;
  expect(emitter.flush()).toBeTrue();
  expect(queue.readable).toBe(0);
});

test("a sink that would block is not asked again before poll(2)", () => {
  using queue = new Queue("pipe");
  const { emitter } = queue;
  let asked = 0;
  const spliceFile = () => {
    asked++;
    return WOULD_BLOCK;
  };
  const full = new Emitter(
    Object.assign(Object.create(emitter.sink) as Sink, { spliceFile }),
    queue.counters,
  );
  full.ready = true;
  full.pushFile(queue.file, 0, 1000);
  expect([full.flush(), full.flush(), asked, full.ready]).toEqual([false, false, 1, false]);
});
