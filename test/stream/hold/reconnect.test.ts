/** Clients that come back to a disk, before their loss is noticed, late, or without its ever being noticed. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import {
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../../src/protocol/constants.ts";
import { DiskClient, type Form } from "../../support/disk-client.ts";
import { DiskModel, type DiskRequest } from "../../support/disk-model.ts";
import { exploring } from "../../support/exploring.ts";
import { HoldFixture, MiB } from "../../support/hold.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { DISC, finish } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260105, 60);

const KiB = 1024;
const SIZE = 999_937;
const SECTORS = Math.ceil(SIZE / 512) * 512;
const NOTHING = new Uint8Array(0);

/** What happens next. */
type Event =
  /** The client sends its next requests, as many as it may have in flight. */
  | { readonly type: "send"; readonly depth: number }
  | { readonly type: "turns"; readonly number: number }
  /** So many bytes at a time leave the client from now on. */
  | { readonly type: "pace"; readonly bytes: number }
  /** The connection is lost; the client is back at once and repeats what was not answered. */
  | {
      readonly type: "lose";
      readonly how: "closed" | "dead" | "late";
      readonly order: "same" | "reverse";
    }
  /** What lost connections still had on their way arrives now. */
  | { readonly type: "deliver" };

const script: fc.Arbitrary<DiskRequest[]> = fc.array(
  fc
    .record({
      type: fc.constantFrom(
        ...[NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE],
        ...[NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM, NBD_CMD_READ],
      ),
      // Few places, so that much is written more than once.
      place: fc.nat(15),
      length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 200_000 })),
    })
    .map(({ type, place, length }) => {
      const offset = place * 65_000;
      return { type, flags: 0, offset, length: Math.min(length, SECTORS - offset) };
    }),
  { minLength: 4, maxLength: 40, size: "max" },
);

const weighted = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary });

const events: fc.Arbitrary<Event[]> = fc.array(
  fc.oneof(
    weighted(
      5,
      fc.record({ type: fc.constant("send" as const), depth: fc.constantFrom(1, 4, 16) }),
    ),
    weighted(
      5,
      fc.record({ type: fc.constant("turns" as const), number: fc.constantFrom(1, 3, 20) }),
    ),
    weighted(
      2,
      fc.record({
        type: fc.constant("pace" as const),
        bytes: fc.constantFrom(1000, 20_000, 1 << 18),
      }),
    ),
    weighted(
      3,
      fc.record({
        type: fc.constant("lose" as const),
        how: fc.constantFrom("closed" as const, "dead" as const, "late" as const),
        order: fc.constantFrom("same" as const, "reverse" as const),
      }),
    ),
    weighted(2, fc.record({ type: fc.constant("deliver" as const) })),
  ),
  { maxLength: 80, size: "max" },
);

function payloadOf({ type, offset, length }: DiskRequest, index: number): Uint8Array {
  if (type !== NBD_CMD_WRITE) return NOTHING;
  const payload = index % 4 === 3 ? Buffer.alloc(length) : pseudoRandom(length, index + 1);
  // There is no room behind the end.
  return payload.fill(0, Math.max(0, Math.min(length, SIZE - offset)));
}

/** A client with requests in flight, of which no two touch the same bytes; repeats them as qemu's does. */
class ReturningClient {
  readonly model = new DiskModel(SIZE);
  readonly #stream: HoldFixture;
  readonly #form: Form;
  readonly #requests: readonly DiskRequest[];
  #client: DiskClient;
  #pace = 1 << 18;
  #next = 0;
  /** By the number of the request, what it has to get. */
  readonly #inFlight = new Map<number, number | Uint8Array>();
  /** The numbers of the requests of the present connection, by cookie. */
  #numbers = new Map<bigint, number>();
  readonly #late: DiskClient[] = [];

  constructor(stream: HoldFixture, requests: readonly DiskRequest[], form: Form) {
    this.#stream = stream;
    this.#form = form;
    this.#requests = requests;
    this.#client = new DiskClient(stream, form);
  }

  get done(): boolean {
    return this.#next === this.#requests.length && this.#inFlight.size === 0;
  }

  set pace(bytes: number) {
    this.#pace = bytes;
    this.#client.peer.pace = bytes;
  }

  send(depth: number): void {
    while (this.#inFlight.size < depth && this.#next < this.#requests.length) {
      const request = this.#requests[this.#next] as DiskRequest;
      if (this.#touches(request)) return;
      const number = this.#next++;
      const payload = payloadOf(request, number);
      this.#inFlight.set(number, this.model.ask(request, payload, this.#client.form));
      this.#say(number);
    }
  }

  #touches({ offset, length }: DiskRequest): boolean {
    return [...this.#inFlight.keys()].some((number) => {
      const other = this.#requests[number] as DiskRequest;
      return offset < other.offset + other.length && other.offset < offset + length;
    });
  }

  /** Takes the answers that are there. */
  hear(): void {
    while (this.#client.peer.available >= 16 && this.#numbers.size > 0) {
      const { cookie, error, data } = this.#client.take();
      const number = this.#numbers.get(cookie) as number;
      const want = this.#inFlight.get(number);
      this.#numbers.delete(cookie);
      this.#inFlight.delete(number);
      expect(error).toBe(typeof want === "number" ? want : 0);
      if (typeof want === "object") expect(data.equals(want)).toBeTrue();
    }
  }

  lose(how: "closed" | "dead" | "late", order: "same" | "reverse"): void {
    if (how === "closed") this.#stream.hangUp(this.#client.peer);
    else this.#client.peer.dead = true;
    if (how === "late") this.#late.push(this.#client);
    this.#client = new DiskClient(this.#stream, this.#form);
    this.#client.peer.pace = this.#pace;
    this.#numbers = new Map();
    const again = [...this.#inFlight.keys()];
    for (const number of order === "same" ? again : again.toReversed()) this.#say(number);
  }

  deliver(): void {
    for (const { peer } of this.#late) peer.dead = false;
  }

  leave(): void {
    this.#client.peer.send(DISC);
  }

  #say(number: number): void {
    const request = this.#requests[number] as DiskRequest;
    this.#numbers.set(this.#client.send(request, payloadOf(request, number)), number);
  }
}

function play(stream: HoldFixture, client: ReturningClient, happenings: readonly Event[]): void {
  for (const event of happenings) {
    if (event.type === "send") client.send(event.depth);
    else if (event.type === "lose") client.lose(event.how, event.order);
    else if (event.type === "deliver") client.deliver();
    else if (event.type === "pace") client.pace = event.bytes;
    else stream.turns(event.number);
    client.hear();
  }
}

test.each(["compact", "structured", "extended"] as const)(
  "a client that comes back has its disk, however often and whenever the connection was lost (%s)",
  (form) => {
    fc.assert(
      fc.property(script, events, fc.boolean(), (requests, happenings, isLateAtLast) => {
        using stream = new HoldFixture({ size: SIZE, reconnect: true });
        const client = new ReturningClient(stream, requests, form);
        play(stream, client, happenings);
        stream.until(() => {
          client.hear();
          client.send(16);
          return client.done;
        });
        if (isLateAtLast) client.deliver();
        client.leave();
        stream.settle();
        expect(stream.broken).toBeUndefined();
        const output = finish(stream);
        expect(stream.broken).toBeUndefined();
        const want = client.model.output(false);
        expect(output.length).toBe(want.length);
        expect(output.equals(want)).toBeTrue();
      }),
      { seed: SEED, numRuns: RUNS },
    );
  },
);

const DATA = pseudoRandom(256 * KiB, 9);
const OLD = Buffer.alloc(256 * KiB, "old ");
const NEW = Buffer.alloc(256 * KiB, "new ");
const write = (offset: number, payload: Uint8Array) =>
  [{ type: NBD_CMD_WRITE, offset, length: payload.length, flags: 0 }, payload] as const;
const request = (type: number, offset: number, length: number) => ({
  type,
  offset,
  length,
  flags: 0,
});
/** Two connections of one client, the second of which it has come back on. */
const pair = (stream: HoldFixture) => [new DiskClient(stream), new DiskClient(stream)] as const;
/** Sends a part of a WRITE. */
function begin(client: DiskClient, offset: number, payload: Uint8Array, sent: number): Uint8Array {
  const bytes = client.encode(...write(offset, payload), 9n);
  client.peer.send(bytes.subarray(0, sent));
  return bytes.subarray(sent);
}
const open = (size = 64 * MiB) => new HoldFixture({ size, reconnect: true });

describe("an old connection, whose client has come back and has written anew,", () => {
  const KINDS = {
    WRITE: NBD_CMD_WRITE,
    WRITE_ZEROES: NBD_CMD_WRITE_ZEROES,
    TRIM: NBD_CMD_TRIM,
  };

  test.each(Object.entries(KINDS))("cannot change that with a late %s", (_, type) => {
    using stream = open();
    const [first, second] = pair(stream);
    first.ask(...write(0, DATA.subarray(0, 100)));
    second.ask(...write(1000, NEW.subarray(0, 4096)));
    const length = 64 * KiB;
    first.send(
      request(type, 0, length),
      type === NBD_CMD_WRITE ? OLD.subarray(0, length) : NOTHING,
    );
    stream.until(() => first.peer.finished);
    second.peer.send(DISC);
    const output = finish(stream);
    expect(output.subarray(1000).equals(NEW.subarray(0, 4096))).toBeTrue();
    expect(stream.ends).toEqual(["replaced", "disconnected"]);
    expect(stream.broken).toBeUndefined();
  });

  test.each([100, 128 * KiB])("cannot change it with the rest of a WRITE of %d bytes", (length) => {
    using stream = open();
    const [first, second] = pair(stream);
    const rest = begin(first, 0, OLD.subarray(0, length), 28 + length / 2);
    stream.settle();
    second.ask(...write(0, NEW.subarray(0, length)));
    first.peer.send(rest);
    stream.until(() => first.peer.finished);
    second.peer.send(DISC);
    expect(finish(stream).equals(NEW.subarray(0, length))).toBeTrue();
    expect(stream.broken).toBeUndefined();
  });

  test("cannot change it even while the new WRITE is not complete", () => {
    using stream = open();
    const [first, second] = pair(stream);
    // It is no repeat: its client has given the old WRITE up.
    const rest = begin(second, 64 * KiB, NEW.subarray(0, 128 * KiB), 28 + 64 * KiB);
    stream.settle();
    first.send(...write(0, OLD.subarray(0, 128 * KiB)));
    stream.until(() => first.peer.finished);
    second.peer.send(rest);
    stream.until(() => second.peer.available >= 16);
    second.peer.send(DISC);
    const output = finish(stream);
    expect(output.subarray(64 * KiB).equals(NEW.subarray(0, 128 * KiB))).toBeTrue();
  });

  test("cannot change it with zeroes that it was in the middle of", () => {
    using stream = open(2 ** 42);
    const first = new DiskClient(stream, "extended");
    const second = new DiskClient(stream);
    for (let at = 0; at < 200; at++) first.ask(...write(at * 2 ** 30, DATA.subarray(0, 10)));
    first.send(request(NBD_CMD_WRITE_ZEROES, 0, 2 ** 40));
    stream.turns(1);
    second.send(...write(199 * 2 ** 30, NEW.subarray(0, 10)));
    stream.until(() => second.peer.available >= 16);
    expect(second.take().error).toBe(0);
    stream.until(() => first.peer.finished);
    const there = second.ask(request(NBD_CMD_READ, 199 * 2 ** 30, 10)).data;
    expect(there.equals(NEW.subarray(0, 10))).toBeTrue();
  });

  test("cannot change it behind all data, while zeroes up to there are on their way", () => {
    using stream = open(2 ** 42);
    const first = new DiskClient(stream);
    const second = new DiskClient(stream, "extended");
    for (let at = 0; at < 200; at++) first.ask(...write(at * 2 ** 30, DATA.subarray(0, 10)));
    second.send(request(NBD_CMD_WRITE_ZEROES, 0, 2 ** 40));
    stream.turns(1);
    expect(second.peer.available).toBe(0);
    first.send(...write(2 ** 39, OLD.subarray(0, 10)));
    stream.until(() => first.peer.finished && second.peer.available >= 32);
    second.take();
    const there = second.ask(request(NBD_CMD_READ, 2 ** 39, 10)).data;
    expect(there.equals(Buffer.alloc(10))).toBeTrue();
  });

  test("may still write elsewhere, and read", () => {
    using stream = open();
    const [first, second] = pair(stream);
    second.ask(...write(0, NEW.subarray(0, 4096)));
    expect(first.ask(...write(4096, DATA.subarray(0, 4096))).error).toBe(0);
    expect(first.ask(request(NBD_CMD_READ, 0, 4)).data.toString()).toBe("new ");
    expect(stream.ends).toEqual([]);
  });
});

describe("a WRITE that was cut off", () => {
  /** Ends the stream, as when nobody is awaited any more. */
  const end = (stream: HoldFixture) => {
    stream.command({ type: "end-reconnect" });
    stream.settle();
    return stream.broken;
  };

  test.each([20, 100, 128 * KiB])(
    "of %d bytes is missing until a client sends it again",
    (length) => {
      for (const again of [false, true]) {
        using stream = open();
        const first = new DiskClient(stream);
        begin(first, 5000, OLD.subarray(0, length), 28 + length / 2);
        stream.settle();
        stream.hangUp(first.peer);
        stream.settle();
        expect(stream.broken).toBeUndefined();
        const second = new DiskClient(stream);
        // Only a part of it, or other data, in parts and in another order.
        second.ask(...write(5000 + 10, NEW.subarray(0, length - 10)));
        if (again) second.ask(...write(0, NEW.subarray(0, 5010)));
        expect(end(stream)).toBe(again ? undefined : "CLIENT_CUT");
      }
    },
  );

  test.each([NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM])(
    "is not missing where command %d has been",
    (type) => {
      using stream = open();
      const first = new DiskClient(stream);
      begin(first, 5000, OLD.subarray(0, 1000), 28 + 500);
      stream.settle();
      stream.hangUp(first.peer);
      stream.settle();
      new DiskClient(stream).ask(request(type, 5000, 1000));
      expect(end(stream)).toBeUndefined();
    },
  );

  test.each([1000, MiB + 1000])(
    "in the last sector of %d bytes is there when it is repeated",
    (size) => {
      using stream = open(size);
      const whole = new Uint8Array(Math.ceil(size / 512) * 512);
      whole.fill(7, 0, size);
      const first = new DiskClient(stream);
      begin(first, 0, whole, 28 + 700);
      stream.settle();
      stream.hangUp(first.peer);
      stream.settle();
      const second = new DiskClient(stream);
      second.ask(...write(0, whole));
      expect(end(stream)).toBeUndefined();
      second.peer.send(DISC);
      expect(finish(stream).equals(whole.subarray(0, size))).toBeTrue();
    },
  );

  test("is not missing if its client had come back before that was noticed", () => {
    using stream = open();
    const [first, second] = pair(stream);
    begin(first, 0, OLD.subarray(0, 128 * KiB), 28 + 64 * KiB);
    stream.settle();
    second.ask(...write(0, NEW.subarray(0, 128 * KiB)));
    expect(stream.status()).toMatchObject({ repeated: 1, active: 1 });
    stream.hangUp(first.peer);
    stream.settle();
    expect(end(stream)).toBeUndefined();
  });

  test("is missing as far as the later connection has not come, if that is cut off, too", () => {
    using stream = open();
    const [first, second] = pair(stream);
    begin(first, 0, OLD.subarray(0, 128 * KiB), 28 + 16 * KiB);
    begin(second, 0, NEW.subarray(0, 128 * KiB), 28 + 64 * KiB);
    stream.settle();
    // It has not sent everything of it.
    expect(stream.status()).toMatchObject({ repeated: 0 });
    for (const { peer } of [first, second]) stream.hangUp(peer);
    stream.settle();
    const third = new DiskClient(stream);
    third.ask(...write(0, DATA.subarray(0, 64 * KiB)));
    stream.settle();
    expect(stream.broken).toBeUndefined();
    third.ask(...write(64 * KiB, DATA.subarray(64 * KiB, 128 * KiB)));
    expect(end(stream)).toBeUndefined();
  });

  test("breaks the stream at once where clients cannot come back", () => {
    using stream = new HoldFixture();
    const first = new DiskClient(stream);
    begin(first, 0, OLD.subarray(0, 1000), 28 + 500);
    stream.settle();
    stream.hangUp(first.peer);
    stream.settle();
    expect(stream.broken).toBe("CLIENT_CUT");
  });
});

test("a client that was lost between two requests is back with what it changes next", () => {
  using stream = open();
  const first = new DiskClient(stream);
  first.ask(...write(0, DATA.subarray(0, 100)));
  stream.hangUp(first.peer);
  stream.settle();
  expect(stream.event("closed")).toMatchObject({ end: "dropped", streamed: true });
  const second = new DiskClient(stream);
  second.ask(request(NBD_CMD_READ, 0, 100));
  expect(stream.event("resumed")).toBeUndefined();
  second.ask(request(NBD_CMD_WRITE_ZEROES, 4096, 100));
  expect(stream.event("resumed")).toBeDefined();
});
