/** Clients of a stream that is read that come back, before their loss is noticed or without that. */
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { exploring } from "../../support/exploring.ts";
import { pseudoRandom } from "../../support/images.ts";
import type { Asked } from "../../support/replies.ts";
import type { Peer } from "../../support/peer.ts";
import { ReadFixture } from "../../support/read-stream.ts";
import { DISC } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260101, 60);

const MiB = 1 << 20;
const SIZE = 6 * MiB + 777;
const DISK = pseudoRandom(SIZE, 5);
const KEPT = { window: 64 * MiB, reconnect: true, turnLimit: 5 };

type Event =
  | { readonly type: "ask"; readonly depth: number; readonly length: number }
  | { readonly type: "hear" }
  | { readonly type: "turns"; readonly number: number }
  | { readonly type: "stall"; readonly on: boolean }
  | { readonly type: "deaf"; readonly on: boolean }
  | { readonly type: "lose"; readonly how: "closed" | "dead" };

const constant = <T extends string>(text: T) => fc.constant(text);

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        type: constant("ask"),
        depth: fc.constantFrom(1, 3, 8),
        length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: MiB })),
      }),
    },
    { weight: 3, arbitrary: fc.record({ type: constant("hear") }) },
    {
      weight: 5,
      arbitrary: fc.record({ type: constant("turns"), number: fc.constantFrom(1, 3, 20) }),
    },
    { weight: 1, arbitrary: fc.record({ type: constant("stall"), on: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ type: constant("deaf"), on: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({
        type: constant("lose"),
        how: fc.constantFrom("closed" as const, "dead" as const),
      }),
    },
  ),
  { maxLength: 60 },
);

/** A client that has READs in flight and repeats them when it comes back. */
class Client {
  readonly #stream: ReadFixture;
  #peer: Peer;
  #next = 0;
  #inFlight: Asked[] = [];

  constructor(stream: ReadFixture) {
    this.#stream = stream;
    this.#peer = stream.connect();
  }

  get done(): boolean {
    return this.#next === SIZE && this.#inFlight.length === 0;
  }

  ask(depth: number, length: number): void {
    while (this.#inFlight.length < depth && this.#next < SIZE) {
      const part = Math.min(length, SIZE - this.#next);
      this.#inFlight.push(this.#stream.ask(this.#peer, this.#next, part));
      this.#next += part;
    }
  }

  /** Takes what has come whole; of what has not come whole, nothing counts. */
  hear(): void {
    for (let first = this.#inFlight[0]; first !== undefined; first = this.#inFlight[0]) {
      if (this.#peer.available < 16 + first.length) return;
      this.#take(first);
    }
  }

  /** Waits for the next answer. */
  takeOne(): void {
    const [first] = this.#inFlight;
    if (first !== undefined) this.#take(first);
  }

  set deaf(on: boolean) {
    this.#peer.deaf = on;
  }

  lose(how: "closed" | "dead"): void {
    if (how === "closed") this.#stream.hangUp(this.#peer);
    else this.#peer.dead = true;
    this.#peer = this.#stream.connect();
    this.#inFlight = this.#inFlight.map(({ offset, length }) =>
      this.#stream.ask(this.#peer, offset, length),
    );
  }

  leave(): void {
    this.#peer.send(DISC);
  }

  #take(asked: Asked): void {
    const { error, data } = this.#stream.answer(this.#peer, asked);
    const from = Number(asked.offset);
    expect(error).toBe(0);
    expect(data.equals(DISK.subarray(from, from + asked.length))).toBeTrue();
    this.#inFlight.shift();
  }
}

function happen(stream: ReadFixture, client: Client, event: Event): void {
  if (event.type === "ask") client.ask(event.depth, event.length);
  else if (event.type === "hear") client.hear();
  else if (event.type === "stall") stream.stalled = event.on;
  else if (event.type === "deaf") client.deaf = event.on;
  else if (event.type === "lose") client.lose(event.how);
  else stream.turns(event.number);
}

test("a client gets every byte, however often and whenever its connection was lost", () => {
  fc.assert(
    fc.property(events, (happenings) => {
      using stream = ReadFixture.of(DISK, KEPT);
      const client = new Client(stream);
      for (const event of happenings) happen(stream, client, event);
      stream.stalled = false;
      client.deaf = false;
      while (!client.done) {
        client.ask(4, 300_000);
        client.takeOne();
      }
      client.leave();
      stream.settle();
      expect(stream.broken).toBeUndefined();
      stream.finish();
      expect(stream.broken).toBeUndefined();
    }),
    { seed: SEED, numRuns: RUNS },
  );
});
