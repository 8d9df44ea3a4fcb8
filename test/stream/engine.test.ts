/** What the stream thread is asked; above all who has to go when a client has come for whom there is no place. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { NBD_OK } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { encodeWrite } from "../support/wire.ts";
import { TestClock } from "../support/clock.ts";
import type { EngineFixture } from "../support/engine.ts";
import { ReadFixture } from "../support/read-stream.ts";
import { ask, FLUSH, StreamFixture } from "../support/stream.ts";

setDefaultTimeout(LIMIT);

/** Milliseconds: more than those after which a client counts as idle, which lie outside of the loop. */
const TIMEOUT = 200;
const BYTE = Buffer.from("x");

/** Asks for room. @returns whether there is some */
function makeRoom(stream: EngineFixture): boolean {
  const before = stream.events.length;
  const answer = () => stream.events.slice(before).find((event) => event.type === "evicted");
  stream.command({ type: "evict-idle" });
  stream.until(() => answer() !== undefined);
  return answer()?.found === true;
}

let clock: TestClock;

beforeEach(() => {
  clock = new TestClock();
});
afterEach(() => clock[Symbol.dispose]());

function rest(stream: EngineFixture): void {
  stream.settle();
  clock.pass(TIMEOUT);
  stream.settle();
}

test("of clients that have moved nothing for long, the one that has been silent for longest", () => {
  using stream = new StreamFixture({ idleTimeout: TIMEOUT });
  const [talking, silent] = [stream.connect(), stream.connect()];
  rest(stream);
  expect(ask(stream, talking, FLUSH)).toBe(NBD_OK);
  expect(makeRoom(stream)).toBeTrue();
  expect(stream.ends).toEqual(["displaced"]);
  stream.until(() => silent.finished);
  // What it says does not give a client a right to its place.
  expect(ask(stream, talking, FLUSH)).toBe(NBD_OK);
  expect(makeRoom(stream)).toBeTrue();
  stream.until(() => talking.finished);
  expect(makeRoom(stream)).toBeFalse();
});

test("the event of the one that goes comes before the answer", () => {
  using stream = new StreamFixture({ idleTimeout: TIMEOUT });
  stream.connect();
  rest(stream);
  expect(makeRoom(stream)).toBeTrue();
  const types = stream.events.map(({ type }) => type).filter((type) => type !== "endpoint-open");
  expect(types).toEqual(["closed", "evicted"]);
});

test("nobody who has moved the stream, however silent", () => {
  using stream = new StreamFixture({ idleTimeout: TIMEOUT });
  const peer = stream.connect();
  expect(ask(stream, peer, encodeWrite(0, BYTE))).toBe(NBD_OK);
  rest(stream);
  expect(makeRoom(stream)).toBeFalse();
  expect(ask(stream, peer, encodeWrite(1, BYTE))).toBe(NBD_OK);
});

test("nobody who has come just now", () => {
  using stream = new StreamFixture({ idleTimeout: 60_000 });
  stream.connect();
  rest(stream);
  expect(makeRoom(stream)).toBeFalse();
});

test("nobody who waits for the endpoint", () => {
  using stream = new ReadFixture({ size: 1000, idleTimeout: TIMEOUT });
  const peer = stream.connect();
  const asked = stream.ask(peer, 0, 1000);
  rest(stream);
  expect(makeRoom(stream)).toBeFalse();
  stream.feed(new Uint8Array(1000));
  expect(stream.answer(peer, asked).error).toBe(NBD_OK);
});

test("nobody without a limit", () => {
  using stream = new StreamFixture();
  stream.connect();
  rest(stream);
  expect(makeRoom(stream)).toBeFalse();
});

test("each question whether all is told has an answer of its own", () => {
  using stream = new StreamFixture();
  const answers = () => stream.events.filter(({ type }) => type === "synced").length;
  stream.command({ type: "sync" });
  stream.command({ type: "sync" });
  stream.engine.turn(0);
  stream.command({ type: "sync" });
  stream.until(() => answers() >= 3);
  stream.settle();
  expect(answers()).toBe(3);
});

test("the answer comes behind the end of a client that was gone before the question", () => {
  using stream = new StreamFixture();
  const peer = stream.connect();
  expect(ask(stream, peer, FLUSH)).toBe(NBD_OK);
  stream.command({ type: "sync" });
  stream.engine.turn(0);
  stream.hangUp(peer);
  stream.command({ type: "sync" });
  stream.until(() => stream.events.filter(({ type }) => type === "synced").length === 2);
  const types = stream.events.map(({ type }) => type);
  expect(types.indexOf("closed")).toBeLessThan(types.lastIndexOf("synced"));
});
