/** Clients that come back, before their loss is noticed or without its ever being noticed. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { NBD_CMD_WRITE_ZEROES, NBD_ESHUTDOWN } from "../../../src/protocol/constants.ts";
import { exploring } from "../../support/exploring.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";
import type { Peer } from "../../support/peer.ts";
import { ask, DISC, finish, StreamFixture } from "../../support/stream.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const { SEED, RUNS } = exploring(20260101, 60);

const MiB = 1 << 20;
const REMEMBERED = 64 * MiB;
const EIO = 5;

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
    for (const index of order === "same" ? again : again.toReversed()) this.#say(index);
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
  const disk = Buffer.alloc(Math.max(...requests.map(({ offset, length }) => offset + length)));
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

/** The same requests in any order. */
const shuffled = script.chain((requests) =>
  fc.shuffledSubarray(requests, { minLength: requests.length }),
);

describe("a client that comes back", () => {
  test.each([
    // As the stream thread makes it: what was in flight comes back in any order.
    ["in order", script, { window: REMEMBERED }],
    ["in order, with a spool", script, { window: REMEMBERED, spool: true }],
    ["in any order, with a spool", shuffled, { window: REMEMBERED, spool: true }],
    ["in any order, with a spool for nearly all", shuffled, { window: 128 * 1024, spool: true }],
  ])(
    "makes the disk, however often and whenever the connection was lost: %s",
    (_, requested, options) => {
      fc.assert(
        fc.property(requested, events, (requests, happenings) => {
          using stream = new StreamFixture({ remembered: REMEMBERED, ...options });
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
    },
  );
});

describe("what goes out of the spool may be far more than is remembered:", () => {
  const KiB = 1024;
  const PIECE = 256 * KiB;
  const COUNT = 40;
  const data = (piece: number) => pseudoRandom(PIECE, piece + 1);
  const write = (piece: number) => encodeWrite(piece * PIECE, data(piece));

  /** A client writes all but the first piece, that one last, and is lost before it hears of that. */
  function lost(window: number) {
    const stream = new StreamFixture({ window, spool: true, remembered: MiB });
    const peer = stream.connect();
    for (let piece = 1; piece < COUNT; piece++) expect(ask(stream, peer, write(piece))).toBe(0);
    peer.deaf = true;
    peer.send(write(0));
    stream.until(() => stream.counters.emitted === COUNT * PIECE);
    peer.dead = true;
    return { stream, peer: stream.connect() };
  }

  test.each([64 * KiB, 2 * MiB])(
    "with a window of %d bytes, a client may repeat what it has sent last, wherever that is",
    (window) => {
      const { stream, peer } = lost(window);
      using _ = stream;
      for (const piece of [0, COUNT - 1, COUNT - 2]) {
        expect(ask(stream, peer, write(piece))).toBe(0);
      }
      peer.send(DISC);
      const whole = Buffer.concat(Array.from({ length: COUNT }, (_, piece) => data(piece)));
      expect(finish(stream).equals(whole)).toBeTrue();
      expect(stream.broken).toBeUndefined();
    },
  );

  test.each([
    ["other data", encodeWrite(0, data(7))],
    ["what it has sent long before", write(5)],
    ["zeroes", encodeRequest(NBD_CMD_WRITE_ZEROES, 5 * PIECE, PIECE)],
    ["zeroes beside what is remembered", encodeRequest(NBD_CMD_WRITE_ZEROES, PIECE - 1, 2)],
  ])("%s there are a backward write", (_, request) => {
    const { stream, peer } = lost(64 * KiB);
    using _s = stream;
    expect(ask(stream, peer, request)).toBe(EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
  });
});

test("what a client may repeat takes no room in the spool once it is out", () => {
  using stream = new StreamFixture({ window: 64 * 1024, remembered: MiB, spool: true });
  const peer = stream.connect();
  const part = 8 * MiB;
  const data = pseudoRandom(MiB, 4);
  let most = 0;
  for (let start = 0; start < 6 * part; start += 2 * part) {
    for (const from of [start + part, start]) {
      for (let at = from; at < from + part; at += MiB) {
        expect(ask(stream, peer, encodeWrite(at, data))).toBe(0);
        most = Math.max(most, stream.counters.spooled);
      }
    }
    stream.until(() => stream.counters.emitted === start + 2 * part);
  }
  expect(most).toBeGreaterThan(part - MiB);
  expect(most).toBeLessThan(2 * part);
  expect(stream.counters.spooled).toBeLessThan(MiB);
});

describe("a WRITE below the head", () => {
  const KiB = 1024;
  const DATA = pseudoRandom(256 * KiB, 9);
  const part = (from: number, to: number) => DATA.subarray(from, to);
  const open = () => new StreamFixture({ window: REMEMBERED, remembered: REMEMBERED });
  /** Two clients that have come one after the other. */
  const pair = (stream: StreamFixture) => [stream.connect(), stream.connect()] as const;
  /** Has a client write a part of the data to its place. @returns the error */
  const write = (stream: StreamFixture, peer: Peer, from: number, to: number) =>
    ask(stream, peer, encodeWrite(from, part(from, to)));

  test("is a repeat if a later connection sends the same data", () => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 64 * KiB)).toBe(0);
    expect(write(stream, second, 0, 64 * KiB)).toBe(0);
    expect(write(stream, second, 32 * KiB, 96 * KiB)).toBe(EIO);
  });

  test("is a repeat in parts, and in another order, too", () => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 64 * KiB)).toBe(0);
    for (const at of [48, 0, 32, 16]) {
      const data = part(at * KiB, (at + 16) * KiB);
      expect(ask(stream, second, encodeWrite(at * KiB, data))).toBe(0);
    }
    second.send(DISC);
    expect(finish(stream).equals(part(0, 64 * KiB))).toBeTrue();
    expect(stream.ends).toEqual(["replaced", "disconnected"]);
  });

  test.each([
    ["the first byte", 0],
    ["the last byte", 64 * KiB - 1],
  ])("is a backward write if %s is another one", (_, place) => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 64 * KiB)).toBe(0);
    const other = Buffer.from(part(0, 64 * KiB));
    other[place] = (other[place] as number) ^ 1;
    expect(ask(stream, second, encodeWrite(0, other))).toBe(EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
  });

  test("is a backward write if its own connection has sent it before", () => {
    using stream = open();
    const peer = stream.connect();
    expect(write(stream, peer, 0, 64 * KiB)).toBe(0);
    expect(write(stream, peer, 0, 64 * KiB)).toBe(EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
  });

  test("is a backward write if it is not remembered any more", () => {
    using stream = new StreamFixture({ window: 64 * KiB, remembered: 128 * KiB });
    const [first, second] = pair(stream);
    expect(ask(stream, first, encodeWrite(0, DATA))).toBe(0);
    expect(write(stream, second, 0, 4 * KiB)).toBe(EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
  });

  test("is a backward write without --reconnect, whatever it repeats", () => {
    using stream = new StreamFixture();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 64 * KiB)).toBe(0);
    expect(write(stream, second, 0, 64 * KiB)).toBe(EIO);
    expect(stream.broken).toBe("BACKWARD_WRITE");
  });

  test.each(["write", "zero"])(
    "is the end of an older connection, and of nothing else (%s)",
    (kind) => {
      using stream = open();
      const [first, second] = pair(stream);
      expect(write(stream, first, 0, 4 * KiB)).toBe(0);
      expect(write(stream, second, 4 * KiB, 64 * KiB)).toBe(0);
      if (kind === "write") first.send(encodeWrite(4 * KiB, part(0, 4 * KiB)));
      else first.send(encodeRequest(NBD_CMD_WRITE_ZEROES, 4 * KiB, 4 * KiB));
      stream.until(() => first.finished);
      expect(stream.broken).toBeUndefined();
      second.send(DISC);
      expect(finish(stream).equals(part(0, 64 * KiB))).toBeTrue();
      expect(stream.ends).toEqual(["replaced", "disconnected"]);
    },
  );

  test.each(["write", "zero"])(
    "of what waits in the window is the end of an older connection, and changes nothing (%s)",
    (kind) => {
      using stream = open();
      const [first, second] = pair(stream);
      expect(write(stream, first, 0, 4 * KiB)).toBe(0);
      expect(write(stream, second, 8 * KiB, 64 * KiB)).toBe(0);
      if (kind === "write") first.send(encodeWrite(8 * KiB, part(0, 4 * KiB)));
      else first.send(encodeRequest(NBD_CMD_WRITE_ZEROES, 8 * KiB, 4 * KiB));
      stream.until(() => first.finished);
      expect(write(stream, second, 4 * KiB, 8 * KiB)).toBe(0);
      second.send(DISC);
      expect(finish(stream).equals(part(0, 64 * KiB))).toBeTrue();
      expect(stream.ends).toEqual(["replaced", "disconnected"]);
    },
  );

  test.each([
    ["the same data", 0, undefined],
    ["other data", 1, "BACKWARD_WRITE"],
  ])("is compared once it is there if the head passes it on its way (%s)", (_, flip, broken) => {
    using stream = open();
    const [first, second] = pair(stream);
    const start = encodeWrite(0, part(0, 8 * KiB));
    first.send(start.subarray(0, 1000));
    stream.settle();
    const repeated = Buffer.from(encodeWrite(8 * KiB, part(8 * KiB, 64 * KiB)));
    repeated[100] = (repeated[100] as number) ^ flip;
    second.send(repeated.subarray(0, 40 * KiB));
    stream.settle();
    first.send(start.subarray(1000), encodeWrite(8 * KiB, part(8 * KiB, 32 * KiB)));
    stream.settle();
    second.send(repeated.subarray(40 * KiB));
    stream.settle();
    expect(stream.broken).toBe(broken);
    if (broken !== undefined) return;
    second.send(DISC);
    expect(finish(stream).equals(part(0, 64 * KiB))).toBeTrue();
  });

  test("takes a repeat of zeroes where there are only zeroes, however they came there", () => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(ask(stream, first, encodeWrite(0, Buffer.alloc(64 * KiB)))).toBe(0);
    expect(ask(stream, first, encodeWrite(128 * KiB, part(0, 4 * KiB)))).toBe(0);
    const zero = encodeRequest(NBD_CMD_WRITE_ZEROES, 32 * KiB, 96 * KiB);
    expect(ask(stream, second, zero)).toBe(0);
    expect(ask(stream, second, encodeRequest(NBD_CMD_WRITE_ZEROES, 64 * KiB, 68 * KiB))).toBe(0);
    second.send(DISC);
    expect(
      finish(stream).equals(Buffer.concat([Buffer.alloc(128 * KiB), Buffer.alloc(4 * KiB)])),
    ).toBeTrue();
  });

  test("has an older connection count again when that goes on with the stream", () => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 4 * KiB)).toBe(0);
    expect(write(stream, second, 4 * KiB, 8 * KiB)).toBe(0);
    expect(stream.status()).toMatchObject({ active: 1, repeated: 0 });
    expect(write(stream, first, 8 * KiB, 12 * KiB)).toBe(0);
    expect(stream.status()).toMatchObject({ active: 2, repeated: 0 });
    stream.hangUp(first);
    stream.settle();
    expect(stream.event("closed")?.streamed).toBeTrue();
  });

  test("has the death of one that has been succeeded change nothing", () => {
    using stream = open();
    const [first, second] = pair(stream);
    expect(write(stream, first, 0, 4 * KiB)).toBe(0);
    expect(write(stream, second, 4 * KiB, 8 * KiB)).toBe(0);
    stream.hangUp(first);
    stream.settle();
    expect(stream.event("closed")?.streamed).toBeFalse();
  });
});

describe("a client that is lost", () => {
  const KiB = 1024;
  const data = pseudoRandom(64 * KiB, 3);
  const write = (stream: StreamFixture, peer: Peer, at: number) =>
    expect(ask(stream, peer, encodeWrite(at * KiB, data.subarray(at * KiB, (at + 4) * KiB)))).toBe(
      0,
    );
  const resumed = (stream: StreamFixture) => stream.event("resumed") !== undefined;

  test("is not back when another one goes on that was there before", () => {
    using stream = new StreamFixture({ window: REMEMBERED, remembered: REMEMBERED });
    const [first, second] = [stream.connect(), stream.connect()];
    for (const [peer, at] of [
      [first, 0],
      [second, 4],
      [first, 8],
    ] as const)
      write(stream, peer, at);
    stream.hangUp(first);
    stream.settle();
    expect(stream.event("closed")?.streamed).toBeTrue();
    write(stream, second, 12);
    expect(resumed(stream)).toBeFalse();
    write(stream, stream.connect(), 16);
    expect(resumed(stream)).toBeTrue();
  });

  test("is back only when as many have come as were lost", () => {
    using stream = new StreamFixture({ window: REMEMBERED, remembered: REMEMBERED });
    const [first, second] = [stream.connect(), stream.connect()];
    for (const [peer, at] of [
      [first, 0],
      [second, 4],
      [first, 8],
    ] as const)
      write(stream, peer, at);
    for (const peer of [first, second]) stream.hangUp(peer);
    stream.settle();
    const third = stream.connect();
    write(stream, third, 12);
    write(stream, third, 16);
    expect(resumed(stream)).toBeFalse();
    write(stream, stream.connect(), 20);
    expect(resumed(stream)).toBeTrue();
  });

  test("is back with the first thing that it does, though its loss was not noticed before", () => {
    using stream = new StreamFixture({ window: REMEMBERED, remembered: REMEMBERED });
    const [first, second] = [stream.connect(), stream.connect()];
    write(stream, first, 0);
    stream.hangUp(first);
    stream.settle();
    write(stream, second, 4);
    expect(resumed(stream)).toBeTrue();
  });

  test("leaves the one that takes its place waiting for nothing when the reader dies", () => {
    using stream = new StreamFixture({ window: REMEMBERED, remembered: REMEMBERED });
    const [first, second] = [stream.connect(), stream.connect()];
    const start = encodeWrite(0, pseudoRandom(4096, 4));
    expect(ask(stream, first, encodeWrite(4096, pseudoRandom(4 * MiB, 3)))).toBe(0);
    stream.stalled = true;
    first.send(start);
    stream.settle();
    // What the window has given is still on its way when the first connection is cut.
    expect(ask(stream, second, start)).toBe(0);
    second.send(encodeWrite(4 * MiB + 4096, pseudoRandom(4096, 5)));
    stream.settle();
    expect(stream.ends).toEqual(["replaced"]);
    expect(stream.status()).toMatchObject({ active: 1, waitsForEndpoint: true });
    stream.closeReader();
    stream.until(() => second.available >= 16);
    expect(second.take(16).readUInt32BE(4)).toBe(NBD_ESHUTDOWN);
    expect(stream.broken).toBe("READER_GONE");
  });
});
