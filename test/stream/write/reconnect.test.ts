/** Clients that come back, before their loss is noticed or without its ever being noticed. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { NBD_CMD_WRITE_ZEROES } from "../../../src/protocol/constants.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeRequest, encodeWrite } from "../../support/nbd-client.ts";
import type { Peer } from "../../support/peer.ts";
import { DISC, finish, StreamFixture } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const SEED = Number(process.env.NBD_STREAMING_SEED ?? 20260101);
const RUNS = Number(process.env.NBD_STREAMING_RUNS ?? 60);

const MiB = 1 << 20;
const REMEMBERED = 64 * MiB;

interface Request {
  readonly kind: "write" | "zero";
  readonly offset: number;
  readonly length: number;
}

/** What happens next. */
type Event =
  /** The client sends its next requests, as many as it may have in flight. */
  | { readonly type: "send"; readonly depth: number }
  | { readonly type: "turns"; readonly number: number }
  | { readonly type: "stall"; readonly on: boolean }
  /** The connection is lost; the client is back at once and repeats what was not answered. */
  | { readonly type: "lose"; readonly how: "closed" | "dead"; readonly order: "same" | "reverse" };

/** In order, each byte at most once, with gaps and zeroes. */
const script: fc.Arbitrary<Request[]> = fc
  .array(
    fc.record({
      kind: fc.constantFrom("write", "write", "write", "zero" as const),
      gap: fc.oneof(
        { weight: 8, arbitrary: fc.constant(0) },
        { weight: 1, arbitrary: fc.integer({ min: 1, max: 300_000 }) },
        { weight: 1, arbitrary: fc.constant(3 * MiB) },
      ),
      length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 400_000 })),
    }),
    { minLength: 4, maxLength: 30 },
  )
  .map((parts) => {
    let at = 0;
    return parts.map(({ kind, gap, length }): Request => {
      const offset = at + gap;
      at = offset + length;
      return { kind: kind as Request["kind"], offset, length };
    });
  });

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        type: fc.constant("send" as const),
        depth: fc.constantFrom(1, 4, 16),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        type: fc.constant("turns" as const),
        number: fc.constantFrom(1, 3, 20),
      }),
    },
    { weight: 2, arbitrary: fc.record({ type: fc.constant("stall" as const), on: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({
        type: fc.constant("lose" as const),
        how: fc.constantFrom("closed" as const, "dead" as const),
        order: fc.constantFrom("same" as const, "reverse" as const),
      }),
    },
  ),
  { maxLength: 60 },
);

/** A client that has its requests in flight and repeats them, as qemu's does. */
class Client {
  readonly #stream: StreamFixture;
  readonly #requests: readonly Request[];
  #peer: Peer;
  #next = 0;
  readonly #inFlight = new Map<number, Request>();
  errors: number[] = [];

  constructor(stream: StreamFixture, requests: readonly Request[]) {
    this.#stream = stream;
    this.#requests = requests;
    this.#peer = stream.connect();
  }

  get done(): boolean {
    return this.#next === this.#requests.length && this.#inFlight.size === 0;
  }

  send(depth: number): void {
    while (this.#inFlight.size < depth && this.#next < this.#requests.length) {
      const index = this.#next++;
      this.#inFlight.set(index, this.#requests[index] as Request);
      this.#say(index);
    }
  }

  hear(): void {
    for (const { cookie, error } of this.#peer.takeReplies()) {
      this.#inFlight.delete(Number(cookie));
      if (error !== 0) this.errors.push(error);
    }
  }

  lose(how: "closed" | "dead", order: "same" | "reverse"): void {
    if (how === "closed") this.#stream.hangUp(this.#peer);
    else this.#peer.dead = true;
    this.#peer = this.#stream.connect();
    const again = [...this.#inFlight.keys()];
    for (const index of order === "same" ? again : again.reverse()) this.#say(index);
  }

  leave(): void {
    this.#peer.send(DISC);
  }

  #say(index: number): void {
    const { kind, offset, length } = this.#requests[index] as Request;
    const cookie = BigInt(index);
    if (kind === "zero") {
      this.#peer.send(encodeRequest(NBD_CMD_WRITE_ZEROES, offset, length, { cookie }));
    } else {
      this.#peer.send(encodeWrite(offset, payload(index, length), cookie));
    }
  }
}

function payload(index: number, length: number): Buffer {
  return index % 4 === 3 ? Buffer.alloc(length) : pseudoRandom(length, index + 1);
}

function diskOf(requests: readonly Request[]): Buffer {
  const last = requests.at(-1) as Request;
  const disk = Buffer.alloc(last.offset + last.length);
  for (const [index, { kind, offset, length }] of requests.entries()) {
    if (kind === "write") payload(index, length).copy(disk, offset);
  }
  return disk;
}

function play(stream: StreamFixture, client: Client, happenings: readonly Event[]): void {
  for (const event of happenings) {
    if (event.type === "send") client.send(event.depth);
    else if (event.type === "stall") stream.stalled = event.on;
    else if (event.type === "lose") client.lose(event.how, event.order);
    else stream.turns(event.number);
    client.hear();
  }
}

describe("a client that comes back", () => {
  test("what comes out is the disk, however often and whenever the connection was lost", () => {
    fc.assert(
      fc.property(script, events, (requests, happenings) => {
        // As the stream thread makes it: what was in flight comes back in any order.
        using stream = new StreamFixture({
          window: REMEMBERED,
          remembered: REMEMBERED,
        });
        const client = new Client(stream, requests);
        play(stream, client, happenings);
        stream.stalled = false;
        stream.until(() => {
          client.hear();
          client.send(16);
          return client.done;
        });
        expect(client.errors).toEqual([]);
        client.leave();
        stream.settle();
        expect(stream.broken).toBeUndefined();
        const out = finish(stream);
        const want = diskOf(requests);
        expect(out.length).toBe(want.length);
        expect(out.equals(want)).toBeTrue();
      }),
      { seed: SEED, numRuns: RUNS },
    );
  });
});
