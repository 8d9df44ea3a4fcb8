/** Streams with a spool, through the real engine, against a model of a disk. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_CMD_WRITE_ZEROES,
} from "../../../src/protocol/constants.ts";
import { takeAnswer, takeStatus } from "../../support/answer.ts";
import { exploring } from "../../support/exploring.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import type { Peer } from "../../support/peer.ts";
import { SpoolModel } from "../../support/spool-model.ts";
import { finish, StreamFixture } from "../../support/stream.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260101, 30);

const CLIENTS = 3;
const MiB = 1 << 20;
const SIZES = [3000, 200_001, MiB + 937, 3 * MiB];
const WINDOWS = [0, 64 * 1024, MiB];

interface Step {
  readonly kind: "write" | "zero" | "read" | "status";
  readonly client: number;
  readonly offset: number;
  readonly length: number;
}

const NOISE = pseudoRandom(32 * MiB, 5);

/** The payload of the n-th request; no two have the same bytes at a place, and some are zeroes. */
function payload({ offset, length }: Step, index: number): Uint8Array {
  if (index % 7 === 6) return Buffer.alloc(length);
  const from = (offset + index * 40_961) % (NOISE.length / 2);
  return NOISE.subarray(from, from + length);
}

/** What a client does about a part of the disk; nothing makes it a gap. */
type Part = "write" | "zero" | "nothing";

const client = fc.nat(CLIENTS - 1);
const part = fc.constantFrom<Part[]>("write", "write", "write", "write", "zero", "nothing");

/** Covers each byte of the disk at most once, in any order, or nearly in order. */
function onceEach(size: number, kinds: fc.Arbitrary<Part> = part): fc.Arbitrary<Step[]> {
  const block = 64 * 1024;
  const cut = fc.oneof(
    fc.nat(size),
    fc.nat(64).map((n) => Math.min(size, n * block)),
  );
  const delay = fc.double({ min: 0, max: 1, noNaN: true });
  const parts = fc.array(fc.record({ cut, kind: kinds, client, delay }), {
    minLength: 1,
    maxLength: 40,
  });
  // By how many places a request may come late.
  const disorder = fc.constantFrom(0, 2, 6, 40);
  return fc.tuple(parts, disorder).map(([all, places]) =>
    all
      .toSorted((a, b) => a.cut - b.cut)
      .map((step, i, sorted) => {
        const length = (sorted[i + 1]?.cut ?? size) - step.cut;
        return { ...step, length, at: i + step.delay * places };
      })
      .filter(({ kind, length }) => kind !== "nothing" && length > 0)
      .toSorted((a, b) => a.at - b.at)
      .map(({ kind, client, cut: offset, length }) => {
        return { kind: kind as "write" | "zero", client, offset, length };
      }),
  );
}

/** A request for some of the disk. */
function anywhere<K extends Step["kind"]>(
  size: number,
  kinds: fc.Arbitrary<K>,
): fc.Arbitrary<Step> {
  return fc
    .record({ kind: kinds, client, offset: fc.nat(size - 1), length: fc.nat(300_000) })
    .map((step) => ({ ...step, length: Math.max(1, Math.min(step.length, size - step.offset)) }));
}

/** Requests, each with its place among others. */
type Placed = [Step, number][];

function placedAnywhere(step: fc.Arbitrary<Step>): fc.Arbitrary<Placed> {
  return fc.array(fc.tuple(step, fc.nat(40)), { maxLength: 10 });
}

function placed(script: readonly Step[], more: Placed): Step[] {
  const all = [...script];
  for (const [step, place] of more) all.splice(place, 0, step);
  return all;
}

/** Requests that change a part of the disk again, or before its turn. */
const changes = (size: number) =>
  placedAnywhere(
    anywhere(size, fc.constantFrom("write" as const, "write" as const, "zero" as const)),
  );

/** A script mixed with requests that change nothing. */
function mixed(script: fc.Arbitrary<Step[]>, size: number): fc.Arbitrary<Step[]> {
  const questions = anywhere(size, fc.constantFrom("read" as const, "status" as const));
  return fc.tuple(script, placedAnywhere(questions)).map(([steps, more]) => placed(steps, more));
}

function encode(step: Step, index: number): Buffer {
  const { kind, offset, length } = step;
  const cookie = BigInt(index);
  if (kind === "write") return encodeWrite(offset, payload(step, index), cookie);
  const types = { zero: NBD_CMD_WRITE_ZEROES, read: NBD_CMD_READ, status: NBD_CMD_BLOCK_STATUS };
  return encodeRequest(types[kind], offset, length, { cookie });
}

/** Lengths and states of block status. */
function extents(model: SpoolModel, { offset, length }: Step): [number, number][] {
  const result: [number, number][] = [];
  for (let at = offset; at < offset + length; at++) {
    const state = model.isData(at) ? 0 : 3;
    const last = result.at(-1);
    if (last?.[1] === state) last[0]++;
    else result.push([1, state]);
  }
  return result;
}

/** Does one request, whose answer has to be as the model says. */
function play(
  stream: StreamFixture,
  peers: readonly Peer[],
  model: SpoolModel,
  step: Step,
  index: number,
) {
  const peer = peers[step.client] as Peer;
  const { kind, offset, length } = step;
  const asked = {
    cookie: BigInt(index),
    offset,
    length: kind === "read" ? length : 0,
    structured: kind === "read" || kind === "status",
  };
  peer.send(encode(step, index));
  if (kind === "status") {
    const found = takeStatus(stream, peer, asked) as [number, number][];
    const want = extents(model, step);
    // A server may tell of less, but of something.
    expect(found.length).toBeGreaterThan(0);
    expect(found.slice(0, -1)).toEqual(want.slice(0, found.length - 1));
    const last = want[found.length - 1] as [number, number];
    expect(found.at(-1)?.[1]).toBe(last[1]);
    return;
  }
  const { error, data } = takeAnswer(stream, peer, asked);
  if (kind === "read") {
    const want = model.read(offset, length);
    expect(error).toBe(typeof want === "number" ? want : 0);
    if (typeof want !== "number") expect(data.equals(want)).toBeTrue();
    return;
  }
  const want =
    kind === "write" ? model.write(offset, payload(step, index)) : model.zero(offset, length);
  expect(error).toBe(want);
  if (model.broken) return;
  // Only then is the head where the model has it.
  stream.until(() => stream.counters.emitted >= model.head);
  expect(stream.counters.emitted).toBe(model.head);
}

function open(size: number, window: number): { stream: StreamFixture; peers: Peer[] } {
  const stream = new StreamFixture({ size, window, spool: true });
  stream.negotiated = { structured: true, allocation: true };
  return { stream, peers: Array.from({ length: CLIENTS }, () => stream.connect()) };
}

/** Does a script one request at a time. @returns true when the stream is broken, as it has to be */
function playAll(size: number, window: number, script: readonly Step[]): boolean {
  const { stream, peers } = open(size, window);
  using _ = stream;
  const model = new SpoolModel(size);
  for (const [index, step] of script.entries()) {
    play(stream, peers, model, step, index);
    if (model.broken) break;
  }
  if (!model.broken) {
    expect(finish(stream).equals(model.finish())).toBeTrue();
    return false;
  }
  expect(stream.broken).toBe("BACKWARD_WRITE");
  stream.command({ type: "finish", short: "allow" });
  stream.until(() => stream.engine.over);
  stream.settle();
  expect(stream.output.equals(model.finish().subarray(0, stream.output.length))).toBeTrue();
  return true;
}

/** All requests are under way at once, while the reader stops and goes on. */
function playTogether(
  size: number,
  window: number,
  script: readonly Step[],
  stalls: readonly boolean[],
): void {
  const { stream, peers } = open(size, window);
  using _ = stream;
  const model = new SpoolModel(size);
  for (const [index, step] of script.entries()) {
    peers[step.client]?.send(encode(step, index));
    // The order in which they come does not matter, so this one is as good as any.
    if (step.kind === "write") model.write(step.offset, payload(step, index));
    else model.zero(step.offset, step.length);
  }
  expect(model.broken).toBeFalse();
  for (const stalled of stalls) {
    stream.stalled = stalled;
    stream.turns(5);
  }
  stream.stalled = false;
  for (const [index, step] of script.entries()) {
    const asked = { cookie: BigInt(index), offset: step.offset, length: 0, structured: false };
    expect(takeAnswer(stream, peers[step.client] as Peer, asked).error).toBe(0);
  }
  expect(finish(stream).equals(model.finish())).toBeTrue();
}

/** A stream's length, and what its clients do. */
function sized<T>(make: (size: number) => fc.Arbitrary<T>): fc.Arbitrary<[number, T]> {
  return fc.constantFrom(...SIZES).chain((size) => fc.tuple(fc.constant(size), make(size)));
}

const stalls = fc.array(fc.boolean(), { maxLength: 12 });

describe.each(WINDOWS)("with a spool and a window of %d bytes, a stream", (window) => {
  const seed = SEED + window;

  test("is the disk, whatever the order, and is read ahead of the head", () => {
    const scripts = sized((size) => mixed(onceEach(size), size));
    fc.assert(
      fc.property(scripts, ([size, script]) => {
        expect(playAll(size, window, script)).toBeFalse();
      }),
      { seed, numRuns: RUNS },
    );
  });

  test("is the disk of a client that zeroes all first, and then writes in any order", () => {
    const writes = fc.constantFrom<Part[]>("write", "write", "nothing");
    const scripts = sized((size) => mixed(onceEach(size, writes), size));
    fc.assert(
      fc.property(scripts, ([size, script]) => {
        const all: Step = { kind: "zero", client: 0, offset: 0, length: size };
        expect(playAll(size, window, [all, ...script])).toBeFalse();
      }),
      { seed: seed + 1, numRuns: RUNS },
    );
  });

  test("fails if a client comes back to what is out, and else is the disk", () => {
    const scripts = sized((size) => fc.tuple(onceEach(size), changes(size)));
    let broken = 0;
    fc.assert(
      fc.property(scripts, ([size, [steps, more]]) => {
        if (playAll(size, window, placed(steps, more))) broken++;
      }),
      { seed: seed + 2, numRuns: RUNS },
    );
    expect(broken).toBeGreaterThan(0);
  });

  test("is the disk if requests of several connections are under way at once", () => {
    fc.assert(
      fc.property(sized(onceEach), stalls, ([size, script], stalled) =>
        playTogether(size, window, script, stalled),
      ),
      { seed: seed + 3, numRuns: RUNS },
    );
  });

  test("of many megabytes, whose room in the spool is given back, is the disk", () => {
    const size = 27 * MiB + 4321;
    fc.assert(
      fc.property(onceEach(size), stalls, (script, stalled) =>
        playTogether(size, window, script, stalled),
      ),
      { seed: seed + 4, numRuns: Math.ceil(RUNS / 12) },
    );
  });
});
