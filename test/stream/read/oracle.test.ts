import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { exploring } from "../../support/exploring.ts";
import type { Asked } from "../../support/replies.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import type { Peer } from "../../support/peer.ts";
import { type Circumstances, ReadModel } from "../../support/read-model.ts";
import { ReadFixture } from "../../support/read-stream.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260102, 60);

const MIB = 1024 * 1024;
const bytes = pseudoRandom(12 * MIB);

interface Step {
  readonly client: number;
  readonly offset: number;
  readonly length: number;
}

/** What a client has negotiated. */
interface Form {
  readonly structured: boolean;
  readonly extended: boolean;
}

const FORMS: Form[] = [
  { structured: false, extended: false },
  { structured: true, extended: false },
  { structured: true, extended: true },
];

interface Case {
  readonly given: Circumstances;
  /** Bytes that the source has more than the stream's size, or less. */
  readonly surplus: number;
  /** Of each client. */
  readonly forms: readonly Form[];
  readonly checksum: boolean;
  readonly partly: boolean;
  readonly script: readonly Step[];
  /** From this all stalls and pieces follow. */
  readonly pace: number;
}

/**
 * READs that are mostly in order: each offset is given as a distance from where the last one ended,
 * which shrinks well and keeps streams alive for long.
 */
function steps(size: number): fc.Arbitrary<Step[]> {
  const jump = fc.oneof(
    { weight: 12, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 200_000 }) },
    { weight: 3, arbitrary: fc.integer({ min: -100_000, max: -1 }) },
    { weight: 1, arbitrary: fc.integer({ min: -size, max: size }) },
  );
  const length = fc.oneof(
    { weight: 4, arbitrary: fc.nat(600) },
    { weight: 4, arbitrary: fc.constantFrom(512, 4096, 32768, 65536) },
    { weight: 4, arbitrary: fc.nat(150_000) },
    { weight: 1, arbitrary: fc.nat(4 * MIB) },
  );
  const record = fc.record({ client: fc.nat(2), jump, length, clip: fc.nat(19) });
  return fc.array(record, { maxLength: 40 }).map((records) => {
    let at = 0;
    return records.map(({ client, jump, length: wanted, clip }): Step => {
      const offset = Math.min(size, Math.max(0, at + jump));
      // Most READs stay inside the disk.
      const room = Math.ceil(size / 512) * 512 - offset;
      const length = clip > 0 ? Math.min(wanted, room) : wanted;
      at = offset + length;
      return { client, offset, length };
    });
  });
}

function cases(size: number): fc.Arbitrary<Case> {
  const often = fc.constantFrom(true, false, false, false);
  return fc.record({
    given: fc.record({
      size: fc.constant(size),
      window: fc.constantFrom(0, 0, 50_000, 300_000, 2 * MIB),
      pad: fc.boolean(),
      exact: often,
      process: fc.constantFrom("none", "none", "good", "bad"),
    }),
    surplus: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -size, max: 2 * MIB }) },
      { weight: 1, arbitrary: fc.integer({ min: -1000, max: 1000 }) },
    ),
    forms: fc.array(fc.constantFrom(...FORMS), { minLength: 3, maxLength: 3 }),
    checksum: often,
    partly: fc.boolean(),
    script: steps(size),
    pace: fc.nat(),
  });
}

/** Numbers from 0 to 1 that are the same at every run. */
function chance(seed: number): () => number {
  let state = (seed ^ 0x5bd1e995) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** A stream as the case has it, with its clients, whose sockets stall now and then as the source does. */
function open(one: Case): { stream: ReadFixture; peers: Peer[]; model: ReadModel } {
  const { given, surplus, forms, checksum } = one;
  const source = bytes.subarray(0, Math.max(0, given.size + surplus));
  const stream = ReadFixture.of(source, {
    ...given,
    awaitsExit: given.process !== "none",
    ...(checksum ? { checksum: "sha256" } : {}),
  });
  const peers = forms.map((form) => {
    stream.negotiated = form;
    return stream.connect();
  });
  const next = chance(one.pace);
  let answered = false;
  stream.beforeTurn = () => {
    stream.stalled = next() < 0.15;
    stream.piece = Math.ceil(2 ** (next() * 20));
    // Small pieces are for what is short: a test has to end.
    if (source.length > 100_000) stream.piece = Math.max(stream.piece, 30_000);
    for (const peer of peers) peer.deaf = next() < 0.15;
    if (answered || stream.event("source-ended") === undefined || next() < 0.5) return;
    answered = true;
    const problem = given.process === "bad" ? "it failed" : undefined;
    stream.command({ type: "exited", problem });
  };
  return { stream, peers, model: new ReadModel(source, given) };
}

function expectAnswer(
  stream: ReadFixture,
  peer: Peer,
  asked: Asked,
  want: number | Buffer,
  model: ReadModel,
) {
  const { error, data } = stream.answer(peer, asked);
  if (typeof want !== "number") {
    expect(error).toBe(0);
    expect(data.equals(want)).toBeTrue();
    return;
  }
  expect(error).toBe(want);
  // Chunks may have come before the error: they have to be right all the same.
  const at = Number(asked.offset);
  expect(data.equals(model.disk.subarray(at, at + data.length))).toBeTrue();
}

function expectEnd(stream: ReadFixture, model: ReadModel, { partly, checksum }: Case) {
  stream.beforeTurn = () => {};
  stream.stalled = false;
  stream.piece = MIB;
  const ended = stream.finish(partly ? "allow" : "fail");
  expect(stream.broken).toBe(model.verdict(partly));
  expect(ended.windowNeeded).toBe(model.needed);
  if (model.code !== undefined) return;
  expect(stream.counters.emitted).toBe(model.head);
  expect(stream.counters.data).toBe(Math.min(model.head, model.source.length));
  if (model.verdict(partly) === undefined) {
    expect(stream.event("surplus")?.bytes).toBe(model.surplus);
  }
  if (!checksum) return;
  const want = new Bun.CryptoHasher("sha256").update(model.disk.subarray(0, model.head));
  expect(ended.checksum).toBe(want.digest("hex"));
}

describe.each([700, 300_000, MIB + 100, 3 * MIB + 777])("a stream of %d bytes", (size) => {
  test("is as the model says, one READ at a time over three connections", () => {
    fc.assert(
      fc.property(cases(size), (one) => {
        const { stream, peers, model } = open(one);
        using _ = stream;
        for (const { client, offset, length } of one.script) {
          const peer = peers[client] as Peer;
          const asked = stream.ask(peer, offset, length, one.forms[client] as Form);
          expectAnswer(stream, peer, asked, model.read(offset, length), model);
        }
        expectEnd(stream, model, one);
      }),
      { seed: SEED + size, numRuns: RUNS },
    );
  });

  test("is as the model says when all READs are sent at once", () => {
    fc.assert(
      fc.property(cases(size), (one) => {
        const { stream, peers, model } = open(one);
        using _ = stream;
        const peer = peers[0] as Peer;
        const asked = one.script.map(({ offset, length }) =>
          stream.ask(peer, offset, length, one.forms[0] as Form),
        );
        for (const [i, { offset, length }] of one.script.entries()) {
          expectAnswer(stream, peer, asked[i] as Asked, model.read(offset, length), model);
        }
        expectEnd(stream, model, one);
      }),
      { seed: SEED - size, numRuns: RUNS },
    );
  });
});
