import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { Memory } from "../../../ffi/memory.ts";
import { NBD_EIO, NBD_OK } from "../../../src/protocol/constants.ts";
import { makeUnnamed } from "../../../src/files/unnamed.ts";
import type { Offset } from "../../../src/protocol/offset.ts";
import { Counters } from "../../../src/stream/counters.ts";
import { SpoolFile } from "../../../src/stream/spool-file.ts";
import { WindowTrial } from "../../../src/stream/dry-run/window-trial.ts";
import { SPOOL_PIECE, Window } from "../../../src/stream/write/window.ts";
import { exploring } from "../../support/exploring.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { tempFolder } from "../../support/temp.ts";
import { encodeWrite } from "../../support/wire.ts";
import { ask, finish, StreamFixture } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const BLOCK = 64 * KiB;

const { SEED, RUNS } = exploring(20260303, 300);

/** How much of the window is said to have been needed, with memory of its own for every block. */
function needed(window: number, ...writes: readonly (readonly [number, Buffer])[]): number {
  using stream = new StreamFixture({ window });
  const peer = stream.connect();
  for (const [offset, data] of writes) {
    expect(ask(stream, peer, encodeWrite(offset, data))).toBe(NBD_OK);
  }
  finish(stream);
  const ended = stream.events.find((event) => event.type === "ended");
  return ended?.windowNeeded ?? -1;
}

const data = (length: number) => Buffer.alloc(length, 7);

describe("of a window is needed", () => {
  test("nothing by a client in order, whatever it leaves out, and though all of it is taken", () => {
    const island = (index: number) => [index * MiB, data(BLOCK)] as const;
    expect(needed(MiB, ...Array.from({ length: 40 }, (_, i) => island(i + 1)))).toBe(0);
  });

  test("what waits until the gap before it is filled", () => {
    expect(needed(8 * MiB, [2 * MiB, data(MiB)], [0, data(2 * MiB)])).toBe(MiB);
  });

  test("not what waits before that gap: it may go out as soon as it has come", () => {
    const writes = [
      [MiB, data(MiB)],
      [4 * MiB, data(BLOCK)],
      [3 * MiB, data(MiB)],
    ] as const;
    expect(needed(8 * MiB, ...writes)).toBe(BLOCK);
  });

  test("what waits at a time, not what has waited in all", () => {
    const writes = Array.from({ length: 8 }, (_, i) => [
      [(2 * i + 1) * BLOCK, data(BLOCK)] as const,
      [2 * i * BLOCK, data(BLOCK)] as const,
    ]).flat();
    expect(needed(8 * MiB, ...writes)).toBe(BLOCK);
  });
});

/** What a client does, in blocks and parts of them. */
const steps = fc.array(
  fc.record({
    kind: fc.constantFrom("write", "write", "write", "write", "zero", "read"),
    offset: fc.oneof(
      fc.nat(30).map((block) => block * BLOCK),
      fc.nat(30 * BLOCK),
    ),
    length: fc.oneof(fc.constant(BLOCK), fc.integer({ min: 1, max: 3 * BLOCK })),
  }),
  { minLength: 2, maxLength: 25 },
);

test("a window of what was needed does as well, and a smaller one does not", () => {
  const sizes = new Set<number>();
  fc.assert(
    fc.property(steps, (script) => {
      const played = (window: number) => {
        const trial = new WindowTrial(64 * MiB, window);
        const answers: number[] = [];
        for (const { kind, offset, length } of script) {
          if (kind === "write") trial.write(offset, length);
          else if (kind === "zero") trial.zero(offset, length);
          else answers.push(trial.read(offset, length));
          if (!trial.alive) break;
        }
        return { trial, answers };
      };
      const large = played(64 * MiB);
      if (!large.trial.alive) return;
      const enough = large.trial.needed;
      sizes.add(enough);
      const same = played(enough);
      expect(same.trial.alive).toBeTrue();
      expect(same.answers).toEqual(large.answers);
      expect(same.trial.needed).toBe(enough);
      if (enough === 0) return;
      const less = played(enough - BLOCK);
      expect({ ...less, fits: less.trial.alive }).not.toMatchObject({
        fits: true,
        answers: large.answers,
      });
    }),
    { seed: SEED, numRuns: RUNS * 10 },
  );
  expect(sizes.size).toBeGreaterThan(5);
});

test("bytes may be replaced where they are held, and nowhere else", () => {
  const window = new Window(MiB);
  const hold = (start: number, length: number) => {
    window.reserve(start, start + length);
    window.put(start, new Memory(Buffer.alloc(length, 1)).at(0), length);
    window.hold(start, start + length);
  };
  hold(100, 100);
  hold(BLOCK - 50, 100);
  window.overwrite(150, Buffer.alloc(BLOCK, 2));
  const want = Buffer.alloc(2 * BLOCK);
  want.fill(1, 100, 150).fill(2, 150, 200);
  want.fill(2, BLOCK - 50, BLOCK + 50);
  expect(window.read(0, 2 * BLOCK)).toEqual(new Uint8Array(want));
});

test("what scatters over very many places is held in a bounded time", () => {
  const memory = new Memory(BLOCK);
  const window = new Window(2 ** 40, { allocate: () => memory });
  const PLACES = 20_000;
  for (let i = PLACES; i > 0; i--) {
    const at = 2 * i * BLOCK;
    window.countNeeded(at);
    window.reserve(at, at + 512);
    window.hold(at, at + 512);
  }
  expect(window.runs).toBe(PLACES);
  expect(window.needed).toBe((PLACES - 1) * BLOCK);
  expect(window.start).toBe(2 * BLOCK);
});

describe("while a write is on its way into the window, where clients may come back,", () => {
  /** A stream in which a slow client waits for its turn, with this much of a WRITE into the window. */
  function withSlowWrite(window: number, write: Buffer, sent: number) {
    const stream = new StreamFixture({ window, remembered: MiB });
    const [older, slow, quick] = [stream.connect(), stream.connect(), stream.connect()];
    const start = pseudoRandom(100, 1);
    const first = encodeWrite(0, start);
    // In the middle of a payload it has the turn: what others send ahead is held meanwhile.
    older.send(first.subarray(0, 60));
    stream.settle();
    slow.send(write.subarray(0, sent));
    stream.settle();
    expect(ask(stream, older, first.subarray(60))).toBe(NBD_OK);
    return { stream, slow, quick, start };
  }

  test("what others hold in the same memory may go out, and it arrives whole", () => {
    const late = pseudoRandom(1000, 3);
    const write = encodeWrite(2000, late);
    const { stream, slow, quick, start } = withSlowWrite(MiB, write, 600);
    using _ = stream;
    const [first, second] = [pseudoRandom(900, 4), pseudoRandom(1000, 5)];
    expect(ask(stream, quick, encodeWrite(1000, second))).toBe(NBD_OK);
    expect(ask(stream, quick, encodeWrite(100, first))).toBe(NBD_OK);
    stream.settle();
    // It takes what memory is free by now.
    expect(ask(stream, quick, encodeWrite(4 * BLOCK, pseudoRandom(BLOCK, 6)))).toBe(NBD_OK);
    expect(ask(stream, slow, write.subarray(600))).toBe(NBD_OK);
    const all = finish(stream).subarray(0, 3000);
    expect(all.equals(Buffer.concat([start, first, second, late]))).toBeTrue();
  });

  test("the stream may pass it: then it has come too late", () => {
    const write = encodeWrite(1000, pseudoRandom(1000, 3));
    const { stream, slow, quick } = withSlowWrite(MiB, write, 600);
    using _ = stream;
    expect(ask(stream, quick, encodeWrite(100, pseudoRandom(5000, 4)))).toBe(NBD_OK);
    stream.settle();
    expect(ask(stream, slow, write.subarray(600))).toBe(NBD_EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
    expect(stream.counters.emitted).toBe(5100);
  });

  test("its memory counts, and is let go of when its client dies", () => {
    const write = encodeWrite(BLOCK, Buffer.alloc(2 * BLOCK, 1));
    const { stream, slow, quick } = withSlowWrite(2 * BLOCK, write, 1000);
    using _ = stream;
    // There is no room: the gap before it is taken for a hole.
    expect(ask(stream, quick, encodeWrite(8 * BLOCK, Buffer.alloc(10, 2)))).toBe(NBD_OK);
    stream.settle();
    expect(stream.counters.emitted).toBe(8 * BLOCK + 10);
    stream.hangUp(slow);
    stream.until(() => stream.ends.length === 1);
    const more = Buffer.alloc(2 * BLOCK, 3);
    expect(ask(stream, quick, encodeWrite(10 * BLOCK, more))).toBe(NBD_OK);
    stream.settle();
    expect(stream.counters.emitted).toBe(8 * BLOCK + 10);
    expect(stream.broken).toBeUndefined();
  });
});

describe("with a spool", () => {
  /** Where everything happens. */
  const PLACES = 6 * BLOCK;

  interface Piece {
    readonly start: number;
    readonly end: number;
    /** How much of it has been put. */
    put: number;
  }

  /** A window with a spool, beside an array with a note for every byte. */
  class Both implements Disposable {
    readonly #folder = tempFolder();
    readonly #spool: SpoolFile;
    readonly #window: Window;
    readonly #disk = Buffer.alloc(PLACES);
    readonly #held = new Uint8Array(PLACES);
    readonly #arriving: Piece[] = [];
    #allocated = 0;
    #head = 0;
    #count = 0;

    constructor(size: number) {
      const folder = this.#folder.path;
      this.#spool = new SpoolFile({ ...makeUnnamed(folder, true), folder }, new Counters());
      const allocate = () => {
        this.#allocated++;
        // What is in it is left from other places.
        return new Memory(Buffer.alloc(BLOCK, 99));
      };
      this.#window = new Window(size, { allocate, spool: this.#spool });
    }

    #bytes(length: number): Buffer {
      return pseudoRandom(length, ++this.#count);
    }

    reserve(start: number, end: number): void {
      if (start < this.#head) return;
      expect(this.#window.fits(start, end)).toBeTrue();
      this.#window.reserve(start, end, this.#count % 2 === 0);
      this.#arriving.push({ start, end, put: start });
    }

    /** Has a part of one that is on its way arrive. */
    put(which: number, length: number): void {
      const piece = this.#arriving[which % this.#arriving.length];
      if (piece === undefined) return;
      const bytes = this.#bytes(Math.min(length, piece.end - piece.put));
      if (bytes.length === 0) return;
      this.#window.put(piece.put, new Memory(bytes).at(0), bytes.length);
      bytes.copy(this.#disk, piece.put);
      piece.put += bytes.length;
      const want = this.#disk.subarray(piece.start, piece.put);
      const compare = (got: Uint8Array) => Buffer.compare(got, want);
      expect(this.#window.reserved(piece.start, piece.put, compare)).toBe(0);
    }

    /** One of them has arrived, or never will. */
    settle(which: number, whole: boolean): void {
      const [piece] = this.#arriving.splice(which % this.#arriving.length, 1);
      if (piece === undefined) return;
      const { start, end } = piece;
      if (!whole) {
        this.#window.forget(start, end);
        return;
      }
      this.#arriving.push(piece);
      this.put(this.#arriving.length - 1, end - piece.put);
      this.#arriving.pop();
      this.#window.hold(start, end);
      this.#held.fill(1, start, end);
      this.trim(this.#head);
    }

    /** The one that was reserved last has arrived. */
    settleLast(): void {
      this.settle(this.#arriving.length - 1, true);
    }

    trim(head: number): void {
      this.#head = Math.max(this.#head, head);
      this.#window.trim(this.#head);
      this.#held.fill(0, 0, this.#head);
    }

    zero(start: number, end: number): void {
      this.#window.zero(start, end);
      for (let at = start; at < end; at++) if (this.#held[at] === 1) this.#disk[at] = 0;
    }

    overwrite(start: number, end: number): void {
      const bytes = this.#bytes(end - start);
      this.#window.overwrite(start, bytes);
      for (let at = start; at < end; at++) {
        if (this.#held[at] === 1) this.#disk[at] = bytes[at - start] as number;
      }
    }

    /** Takes out what is first. @param limit if that starts before */
    shift(limit?: number): void {
      const first = this.#held.indexOf(1);
      expect(this.#window.start).toBe(first < 0 ? undefined : first);
      if (first < 0) return;
      const parts: Buffer[] = [];
      const from = first;
      const end = this.#window.shift(
        {
          pushBytes(address, length) {
            const part = new Memory(length);
            part.copyFromAddress(address, length, 0);
            parts.push(Buffer.from(part.bytes));
          },
          pushFile(file, at, length) {
            expect([at, parts.length]).toEqual([from, 0]);
            const part = new Memory(Number(length));
            file.read(at, part, 0, Number(length));
            parts.push(Buffer.from(part.bytes));
          },
        },
        limit !== undefined && limit > first ? limit : undefined,
      );
      const out = Buffer.concat(parts);
      expect(end).toBe(first + out.length);
      expect(out.length).toBeGreaterThan(0);
      expect(Buffer.compare(out, this.#disk.subarray(first, first + out.length))).toBe(0);
      expect(this.#held.subarray(first, first + out.length)).not.toContain(0);
      this.trim(first + out.length);
    }

    /** All that can be asked. */
    check(start: number, end: number): void {
      const last = this.#held.lastIndexOf(1);
      expect(this.#window.end).toBe(last < 0 ? undefined : last + 1);
      const part = this.#held.subarray(start, end);
      const bytes = this.#window.read(start, end - start);
      expect(bytes === undefined).toBe(!part.includes(1));
      const want = this.#disk.subarray(start, end).map((byte, i) => (part[i] === 1 ? byte : 0));
      if (bytes !== undefined) expect(Buffer.compare(bytes, want)).toBe(0);
      // However it is used, and whatever is on its way out.
      expect(this.#allocated * BLOCK).toBeLessThanOrEqual(this.#window.size);
    }

    /** Takes all out. */
    drain(): void {
      expect(this.#window.held).toBe(this.#held.reduce((sum, held) => sum + held, 0));
      while (this.#arriving.length > 0) this.settle(0, false);
      while (this.#window.start !== undefined) this.shift();
      expect(this.#window.runs).toBe(0);
    }

    [Symbol.dispose](): void {
      this.#spool.close();
      this.#folder[Symbol.dispose]();
    }
  }

  const range = fc
    .tuple(fc.nat(PLACES - 1), fc.oneof(fc.nat(300), fc.nat(2 * BLOCK), fc.constant(BLOCK)))
    .map(([start, length]) => [start, Math.min(PLACES, start + length + 1)] as const);
  const kinds = ["write", "write", "write", "reserve", "put", "whole", "lost"] as const;
  const others = ["zero", "overwrite", "shift", "limited", "trim"] as const;
  const deed = fc.record({
    kind: fc.constantFrom(...kinds, ...others),
    range,
    which: fc.nat(9),
  });

  test.each([0, BLOCK, 3 * BLOCK, MiB])(
    "a window of %d bytes has what was put into it, in memory or in the file, whatever shares a block",
    (size) => {
      fc.assert(
        fc.property(fc.array(deed, { maxLength: 40 }), (deeds) => {
          using both = new Both(size);
          for (const { kind, range, which } of deeds) {
            const [start, end] = range;
            if (kind === "write" || kind === "reserve") both.reserve(start, end);
            if (kind === "write") both.settleLast();
            else if (kind === "put") both.put(which, end - start);
            else if (kind === "whole" || kind === "lost") both.settle(which, kind === "whole");
            else if (kind === "zero" || kind === "overwrite") both[kind](start, end);
            else if (kind === "shift") both.shift();
            else if (kind === "limited") both.shift(end);
            else if (kind === "trim") both.trim(start >> 2);
            both.check(start, end);
          }
          both.drain();
          both.check(0, PLACES);
        }),
        { seed: SEED + size, numRuns: RUNS / 4 },
      );
    },
  );

  test("a long run comes out of the file in pieces for which there could be memory", () => {
    using folder = tempFolder();
    const counters = new Counters();
    const spool = new SpoolFile({ ...makeUnnamed(folder.path, true), folder: "" }, counters);
    const window = new Window(0, { spool });
    const length = SPOOL_PIECE + 5 * BLOCK;
    window.reserve(BLOCK / 2, length);
    window.hold(BLOCK / 2, length);
    const pieces: Offset[][] = [];
    const pushFile = (_: SpoolFile, at: Offset, size: Offset) => pieces.push([at, size]);
    const pushBytes = () => expect.unreachable();
    while (window.start !== undefined) window.shift({ pushBytes, pushFile });
    expect(pieces).toEqual([
      [BLOCK / 2, SPOOL_PIECE],
      [BLOCK / 2 + SPOOL_PIECE, 4.5 * BLOCK],
    ]);
    expect(window.needed).toBe(0);
    spool.close();
  });
});
