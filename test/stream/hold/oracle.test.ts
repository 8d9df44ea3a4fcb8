/** Any requests at all, against a byte array. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../../src/protocol/constants.ts";
import { DiskClient, type Form, type Want, wanted } from "../../support/disk-client.ts";
import { DiskModel, type DiskRequest } from "../../support/disk-model.ts";
import { exploring } from "../../support/exploring.ts";
import { HoldFixture } from "../../support/hold.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { finish } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260104, 30);

const NOTHING = new Uint8Array(0);

/** Flags that a request may have, and now and then others. */
const flags = fc.oneof(
  { weight: 12, arbitrary: fc.constant(0) },
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      NBD_CMD_FLAG_FUA,
      NBD_CMD_FLAG_NO_HOLE,
      NBD_CMD_FLAG_FAST_ZERO,
      NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
      NBD_CMD_FLAG_DF,
      NBD_CMD_FLAG_REQ_ONE,
    ),
  },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 31 }) },
);

interface Step extends DiskRequest {
  readonly client: number;
}

/** Requests to the parts of a disk that start there, each of `room` bytes, and a little behind the end. */
function steps(room: number, starts: readonly number[]): fc.Arbitrary<Step[]> {
  const length = fc.oneof(
    fc.nat(600),
    fc.constantFrom(512, 4096, 32_767, 32_768, 65_536),
    fc.nat(150_000),
    fc.nat(room),
  );
  const type = fc.constantFrom(
    ...[NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM],
    ...[NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLUSH],
  );
  const record = fc.record({
    type,
    flags,
    client: fc.nat(starts.length - 1),
    // Mostly inside; each place about as often.
    at: fc.oneof({ weight: 9, arbitrary: fc.nat(room) }, fc.constantFrom(0, room - 600, room)),
    length,
    clips: fc.integer({ min: 0, max: 12 }),
    sectors: fc.boolean(),
  });
  return fc.array(record, { minLength: 1, maxLength: 40, size: "max" }).map((records) =>
    records.map(({ type, flags, client, at, length, clips, sectors }): Step => {
      const unit = sectors ? 512 : 1;
      const place = Math.floor(at / unit) * unit;
      // The parts of several clients at once do not overlap.
      const most = clips === 0 && starts.length === 1 ? length : Math.max(0, room - place);
      if (type === NBD_CMD_FLUSH) return { type, flags, client, offset: 0, length: 0 };
      const offset = (starts[client] as number) + place;
      return { type, flags, client, offset, length: Math.min(length, most) };
    }),
  );
}

/** Some are zeroes, which the last sector's rest has to be. */
function payloadOf({ type, length }: DiskRequest, index: number): Uint8Array {
  if (type !== NBD_CMD_WRITE) return NOTHING;
  return index % 4 === 3 ? new Uint8Array(length) : pseudoRandom(length, index + 1);
}

const FORMS: Form[] = ["compact", "structured", "extended"];
const forms = fc.array(fc.constantFrom(...FORMS), { minLength: 4, maxLength: 4 });

/** What a spool's file system may be able to do. */
const ABILITIES = [
  { title: "everything", punches: true, zeroesInPlace: true },
  { title: "holes", punches: true, zeroesInPlace: false },
  { title: "zeroes with room", punches: false, zeroesInPlace: true },
  { title: "neither", punches: false, zeroesInPlace: false },
];

function expectSame(stream: HoldFixture, model: DiskModel, pad: boolean): void {
  expect(stream.broken).toBeUndefined();
  expect(stream.event("refused") !== undefined).toBe(model.refused);
  const output = finish(stream, pad);
  expect(stream.broken).toBeUndefined();
  const want = model.output(pad);
  expect(output.length).toBe(want.length);
  expect(output.equals(want)).toBeTrue();
}

const SIZES = [700_000, 1 << 20, 999_937];

describe.each(ABILITIES)("with a spool that can do $title", (abilities) => {
  const { punches, zeroesInPlace } = abilities;
  // Most file systems can do all.
  const runs = punches && zeroesInPlace ? RUNS : Math.ceil(RUNS / 4);

  test.each(SIZES)("a disk of %d bytes is as the model says, one request at a time", (size) => {
    const script = steps(size + 600, [0, 0, 0, 0]);
    fc.assert(
      fc.property(script, forms, fc.boolean(), (script, forms, pad) => {
        using stream = new HoldFixture({ size, abilities });
        const model = new DiskModel(size, punches, zeroesInPlace);
        const clients = forms.map((form) => new DiskClient(stream, form));
        for (const [index, step] of script.entries()) {
          const client = clients[step.client] as DiskClient;
          const payload = payloadOf(step, index);
          const cookie = client.send(step, payload);
          client.takeAsModelled(new Map([[cookie, wanted(model, client, step, payload)]]));
        }
        expectSame(stream, model, pad);
      }),
      { seed: SEED + size, numRuns: runs },
    );
  });

  test.each(FORMS)(
    "requests that one client with %s headers sends all at once are as the model says",
    (form) => {
      const size = SIZES[2] as number;
      const script = steps(size + 600, [0]);
      fc.assert(
        fc.property(script, fc.boolean(), (script, pad) => {
          using stream = new HoldFixture({ size, abilities });
          const model = new DiskModel(size, punches, zeroesInPlace);
          const client = new DiskClient(stream, form);
          const wants = new Map<bigint, Want>();
          for (const [index, step] of script.entries()) {
            const payload = payloadOf(step, index);
            wants.set(client.send(step, payload), wanted(model, client, step, payload));
          }
          while (wants.size > 0) client.takeAsModelled(wants);
          expectSame(stream, model, pad);
        }),
        { seed: SEED - 1, numRuns: runs },
      );
    },
  );

  test("four clients at once, each in a part of its own, are as the model says", () => {
    const room = 250_007;
    const starts = [0, 1, 2, 3].map((n) => n * room);
    const size = 4 * room;
    fc.assert(
      fc.property(steps(room, starts), forms, fc.boolean(), (script, forms, pad) => {
        using stream = new HoldFixture({ size, abilities });
        const model = new DiskModel(size, punches, zeroesInPlace);
        const clients = forms.map((form) => new DiskClient(stream, form));
        const wants = clients.map(() => new Map<bigint, Want>());
        for (const [index, step] of script.entries()) {
          const client = clients[step.client] as DiskClient;
          const payload = payloadOf(step, index);
          const want = wanted(model, client, step, payload);
          wants[step.client]?.set(client.send(step, payload), want);
        }
        for (const [i, client] of clients.entries()) {
          const own = wants[i] as Map<bigint, Want>;
          while (own.size > 0) client.takeAsModelled(own);
        }
        expectSame(stream, model, pad);
      }),
      { seed: SEED - 2, numRuns: runs },
    );
  });
});
