import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { Memory } from "../../../ffi/memory.ts";
import { NBD_EIO, NBD_OK } from "../../../src/protocol/constants.ts";
import { WindowTrial } from "../../../src/stream/dry-run/window-trial.ts";
import { Window } from "../../../src/stream/write/window.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeWrite } from "../../support/wire.ts";
import { ask, finish, StreamFixture } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const BLOCK = 64 * KiB;

/** Fixed in CI; NBD_STREAMING_SEED and NBD_STREAMING_RUNS explore further. */
const SEED = Number(process.env.NBD_STREAMING_SEED ?? 20260303);
const RUNS = Number(process.env.NBD_STREAMING_RUNS ?? 300);

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
