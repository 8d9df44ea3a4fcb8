/** Who has to go when a client has come for whom there is no place. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { NBD_OK } from "../../../src/protocol/constants.ts";
import { LIMIT } from "../../support/limit.ts";
import { encodeWrite } from "../../support/nbd-client.ts";
import { ask, FLUSH, StreamFixture } from "../../support/stream.ts";

setDefaultTimeout(LIMIT);

/** Milliseconds: more than those after which a client counts as idle, which lie outside of the loop. */
const TIMEOUT = 200;
const BYTE = Buffer.from("x");

/** Asks for room. @returns whether there is some */
function makeRoom(stream: StreamFixture): boolean {
  const before = stream.events.length;
  const answer = () => stream.events.slice(before).find((event) => event.type === "room");
  stream.command({ type: "make-room" });
  stream.until(() => answer() !== undefined);
  return answer()?.made === true;
}

function rest(stream: StreamFixture, milliseconds = TIMEOUT): void {
  stream.settle();
  Bun.sleepSync(milliseconds);
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
  const types = stream.events.map(({ type }) => type).filter((type) => type !== "far-end-open");
  expect(types).toEqual(["closed", "room"]);
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

test("nobody who waits for another client", () => {
  using stream = new StreamFixture({ idleTimeout: TIMEOUT });
  const [writer, waiting] = [stream.connect(), stream.connect()];
  const write = encodeWrite(0, Buffer.alloc(100));
  for (let at = 0; at < 100; at += 10) {
    writer.send(write.subarray(at, at + 10));
    if (at === 50) waiting.send(encodeWrite(100, BYTE));
    rest(stream, 50);
  }
  expect(makeRoom(stream)).toBeFalse();
  writer.send(write.subarray(100));
  stream.until(() => writer.available >= 16 && waiting.available >= 16);
});

test("nobody without a limit", () => {
  using stream = new StreamFixture();
  stream.connect();
  rest(stream);
  expect(makeRoom(stream)).toBeFalse();
});
