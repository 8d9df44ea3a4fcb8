import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE_ZEROES,
} from "../../../src/protocol/constants.ts";
import { exploring } from "../../support/exploring.ts";
import { pseudoRandom } from "../../support/images.ts";
import { takeAny } from "../../support/answer.ts";
import {
  encodeExtended,
  encodeExtendedWrite,
  encodeRequest,
  encodeWrite,
} from "../../support/wire.ts";
import { Oracle, type Step } from "../../support/oracle.ts";
import type { Peer } from "../../support/peer.ts";
import { StreamFixture } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260101, 60);

const CLIENTS = 3;

/**
 * Requests that are mostly in order: each offset is given as a distance from where the last one
 * ended, which shrinks well and keeps streams alive for long.
 */
function steps(size: number): fc.Arbitrary<Step[]> {
  const client = fc.nat(CLIENTS - 1);
  const jump = fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 100_000 }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 500 }) },
    { weight: 1, arbitrary: fc.integer({ min: -200_000, max: -1 }) },
  );
  const length = fc.oneof(fc.nat(600), fc.constantFrom(512, 4096, 65536), fc.nat(150_000));
  const kind = fc.constantFrom("write", "write", "write", "write", "zero", "read", "flush");
  const record = fc.record({ kind, client, jump, length });
  return fc.array(record, { maxLength: 40 }).map((records) => {
    let at = 0;
    return records.map(({ kind, client, jump, length }): Step => {
      if (kind === "flush") return { kind, client };
      const offset = Math.min(size + 600, Math.max(0, at + jump));
      if (kind !== "read") at = offset + length;
      return { kind: kind as "write" | "zero" | "read", client, offset, length };
    });
  });
}

/** The payload of the n-th request; some are zeroes, which the last sector's rest has to be. */
function payload(step: Step & { length: number }, index: number): Buffer {
  return index % 5 === 4 ? Buffer.alloc(step.length) : pseudoRandom(step.length, index + 1);
}

/** The n-th request, with n as its cookie. */
function encode(step: Step, index: number, extended: boolean): Buffer {
  const cookie = BigInt(index);
  const [request, write] = extended
    ? [encodeExtended, encodeExtendedWrite]
    : [encodeRequest, encodeWrite];
  switch (step.kind) {
    case "write":
      return write(step.offset, payload(step, index), cookie);
    case "zero":
      return request(NBD_CMD_WRITE_ZEROES, step.offset, step.length, { cookie });
    case "read":
      return request(NBD_CMD_READ, step.offset, step.length, { cookie });
    case "flush":
      return request(NBD_CMD_FLUSH, 0, 0, { cookie });
  }
}

/** What the client should get: an error, or the bytes that it reads. */
function expected(oracle: Oracle, step: Step, index: number): number | Uint8Array {
  switch (step.kind) {
    case "write":
      return oracle.write(step.offset, payload(step, index));
    case "zero":
      return oracle.zero(step.offset, step.length);
    case "read":
      return oracle.read(step.offset, step.length);
    case "flush":
      return oracle.flush();
  }
}

type Wants = Map<number, number | Uint8Array>;

/** Takes the next answer, which must be as expected of the request that it is for. */
function takeWanted(
  stream: StreamFixture,
  peer: Peer,
  script: readonly Step[],
  wants: Wants,
  extended: boolean,
): void {
  let want: number | Uint8Array | undefined;
  const { error, data } = takeAny(stream, peer, (cookie) => {
    const step = script[Number(cookie)] as Step;
    want = wants.get(Number(cookie));
    wants.delete(Number(cookie));
    const { offset } = step.kind === "flush" ? { offset: 0 } : step;
    const length = step.kind === "read" ? step.length : 0;
    return { cookie, offset, length, structured: extended, extended };
  });
  if (want === undefined) throw new Error("an answer to nothing");
  expect(error).toBe(typeof want === "number" ? want : 0);
  if (typeof want !== "number") expect(data.equals(want)).toBeTrue();
}

function expectSameStream(stream: StreamFixture, oracle: Oracle): void {
  stream.command({ type: "finish", short: "allow" });
  stream.until(() => stream.engine.over && (stream.sawEnd || oracle.broken));
  stream.settle();
  const want = Buffer.from(oracle.finish());
  if (oracle.broken) {
    // What the window held when it broke is lost; what is out is a prefix all the same.
    const prefix = want.subarray(0, stream.output.length);
    expect(stream.output.equals(prefix)).toBeTrue();
  } else {
    expect(stream.output.equals(want)).toBeTrue();
  }
}

/** Whether a client has extended headers. */
const forms = fc.array(fc.boolean(), { minLength: CLIENTS, maxLength: CLIENTS });

const SIZES = [700_000, 1 << 20, 999_937];
const WINDOWS = [0, 65536, 300_000, 1 << 20];

describe.each(WINDOWS)("with a window of %d bytes", (window) => {
  test.each(SIZES)("a stream of %d bytes is as the model says, one request at a time", (size) => {
    fc.assert(
      fc.property(steps(size), forms, (script, extended) => {
        using stream = new StreamFixture({ size, window });
        const oracle = new Oracle(size, window);
        const peers = extended.map((form) => {
          stream.negotiated = { extended: form };
          return stream.connect();
        });
        for (const [index, step] of script.entries()) {
          const peer = peers[step.client] as Peer;
          const form = extended[step.client] as boolean;
          peer.send(encode(step, index, form));
          const wants = new Map([[index, expected(oracle, step, index)]]);
          takeWanted(stream, peer, script, wants, form);
        }
        expectSameStream(stream, oracle);
      }),
      { seed: SEED + size + window, numRuns: RUNS },
    );
  });

  test.each([
    ["compact", false],
    ["extended", true],
  ])(
    "requests with %s headers sent all at once over one connection are as the model says",
    (_, extended) => {
      const size = SIZES[1] as number;
      fc.assert(
        fc.property(steps(size), fc.integer({ min: 1, max: 300_000 }), (script, split) => {
          using stream = new StreamFixture({ size, window });
          stream.negotiated = { extended };
          const oracle = new Oracle(size, window);
          const all = Buffer.concat(script.map((step, i) => encode(step, i, extended)));
          const peer = stream.connect(all.subarray(0, split));
          peer.send(all.subarray(split));
          const wants = new Map(script.map((step, i) => [i, expected(oracle, step, i)]));
          while (wants.size > 0) takeWanted(stream, peer, script, wants, extended);
          expectSameStream(stream, oracle);
        }),
        { seed: SEED - window, numRuns: RUNS },
      );
    },
  );
});
