/** Connections that nobody waits for, in the engine that has them. */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { PollSet } from "../../ffi/poll.ts";
import { NBD_CMD_WRITE, NBD_OK } from "../../src/protocol/constants.ts";
import { Connection } from "../../src/stream/connection.ts";
import { LIMIT } from "../support/limit.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";
import { TestClock } from "../support/clock.ts";
import type { Peer } from "../support/peer.ts";
import { ask, DISC, FLUSH, StreamFixture, type StreamOptions } from "../support/stream.ts";

setDefaultTimeout(LIMIT);

/** More than the 100 milliseconds after which a client counts as idle. */
const A_WHILE = 130;

function descriptors(): string[] {
  return readdirSync("/proc/self/fd");
}

/** The epoll(7) sets of this process: its runtime has one, too. */
function sets(): string[] {
  return descriptors().filter((fd) => fdinfo(fd).startsWith("anon_inode:[eventpoll]"));
}

/** What the descriptor is, and what the kernel says of it (proc(5)). */
function fdinfo(fd: string): string {
  try {
    const path = `/proc/self/fd/${fd}`;
    return readlinkSync(path) + readFileSync(`/proc/self/fdinfo/${fd}`, "latin1");
  } catch {
    // The folder's own is gone.
    return "";
  }
}

/** A stream whose idle connections can be counted. */
class IdleFixture extends StreamFixture {
  readonly clock = new TestClock();
  readonly #sets: string[];

  constructor(options: StreamOptions = {}) {
    const before = sets();
    super(options);
    this.#sets = sets().filter((fd) => !before.includes(fd));
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.clock[Symbol.dispose]();
  }

  get idle(): number {
    const found = this.#sets.flatMap((fd) => fdinfo(fd).match(/^tfd:/gm) ?? []);
    return found.length;
  }

  /** Has all clients that say nothing become idle. */
  rest(): void {
    this.settle();
    this.clock.pass(A_WHILE);
    this.settle();
  }
}

/** A stream with so many clients, all of them idle. */
function idle(count: number, options: StreamOptions = {}) {
  const stream = new IdleFixture(options);
  const peers = Array.from({ length: count }, () => stream.connect());
  stream.settle();
  expect(stream.idle).toBe(0);
  stream.rest();
  expect(stream.idle).toBe(count);
  const [peer] = peers;
  return { stream, peers, peer: peer as Peer };
}

test("an idle client that writes is served as if nothing had been, and may be idle again", () => {
  const { stream, peer } = idle(1);
  using _ = stream;
  for (let at = 0; at < 3; at++) {
    expect(ask(stream, peer, encodeWrite(at, Buffer.from("x")))).toBe(NBD_OK);
    expect(stream.idle).toBe(0);
    stream.rest();
    expect(stream.idle).toBe(1);
  }
  stream.command({ type: "finish", short: "allow" });
  stream.until(() => stream.sawEnd);
  expect(stream.output.toString()).toBe("xxx");
});

test("an idle client that sends a request in parts is served", () => {
  const { stream, peer } = idle(1);
  using _ = stream;
  const write = encodeWrite(0, Buffer.from("abcd"));
  for (const byte of write.subarray(0, -1)) {
    peer.send(Buffer.from([byte]));
    stream.settle();
  }
  expect(ask(stream, peer, write.subarray(-1))).toBe(NBD_OK);
  stream.settle();
  expect(stream.output.toString()).toBe("abcd");
});

test("the timeout of requests begins with the request, however long a client was idle before", () => {
  const { stream, peer } = idle(1, { idleTimeout: 400 });
  using _ = stream;
  stream.clock.pass(400);
  const write = encodeWrite(0, Buffer.from("abcd"));
  peer.send(write.subarray(0, 10));
  stream.settle();
  peer.send(write.subarray(10, -1));
  stream.settle();
  expect(stream.ends).toEqual([]);
  expect(ask(stream, peer, write.subarray(-1))).toBe(NBD_OK);
});

test("an idle client that disconnects is heard of", () => {
  const { stream, peer } = idle(2);
  using _ = stream;
  peer.send(DISC);
  stream.until(() => stream.ends.length > 0);
  expect(stream.ends).toEqual(["disconnected"]);
  expect(stream.idle).toBe(1);
});

test("an idle client that hangs up is heard of", () => {
  const { stream, peer } = idle(2);
  using _ = stream;
  stream.hangUp(peer);
  stream.until(() => stream.ends.length > 0);
  expect(stream.ends).toEqual(["dropped"]);
  expect(stream.idle).toBe(1);
});

test("an idle client that has only finished sending is heard of", () => {
  const { stream, peer } = idle(1);
  using _ = stream;
  peer.halfClose();
  stream.until(() => stream.ends.length > 0);
  expect(stream.ends).toEqual(["dropped"]);
});

test("an idle client that had written, and hangs up, is lost to the stream", () => {
  using stream = new IdleFixture();
  const peer = stream.connect();
  expect(ask(stream, peer, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
  stream.rest();
  stream.hangUp(peer);
  stream.until(() => stream.ends.length > 0);
  expect(stream.events.find((event) => event.type === "closed")).toMatchObject({
    end: "dropped",
    streamed: true,
  });
});

test("more idle clients than are reported at a time all come back", () => {
  const { stream, peers } = idle(150);
  using _ = stream;
  for (const peer of peers) peer.send(FLUSH);
  stream.until(() => peers.every((peer) => peer.available === 16));
  expect(stream.idle).toBe(0);
});

test("idle clients do not keep others from being served", () => {
  const { stream } = idle(50);
  using _ = stream;
  const peer = stream.connect();
  for (let at = 0; at < 20; at++) {
    expect(ask(stream, peer, encodeWrite(at, Buffer.from("x")))).toBe(NBD_OK);
  }
});

test("a client in the middle of a request is never idle, and is cut off at its timeout", () => {
  using stream = new IdleFixture({ idleTimeout: 300 });
  const peer = stream.connect();
  peer.send(encodeRequest(NBD_CMD_WRITE, 0, 4096), Buffer.alloc(10));
  stream.settle();
  stream.rest();
  expect(stream.idle).toBe(0);
  expect(stream.ends).toEqual([]);
  stream.clock.pass(300 - A_WHILE);
  stream.until(() => stream.ends.length > 0);
  expect(stream.ends).toEqual(["stalled"]);
});

test("what comes while the thread has no processor is seen before the client's time is over", () => {
  using stream = new IdleFixture({ idleTimeout: 300 });
  const peer = stream.connect();
  const request = encodeWrite(0, Buffer.alloc(4096));
  peer.send(request.subarray(0, 40));
  stream.settle();
  const wait = PollSet.prototype.wait;
  using _ = spyOn(PollSet.prototype, "wait").mockImplementationOnce(function (this: PollSet) {
    const found = wait.call(this, 0);
    peer.send(request.subarray(40)).pump();
    stream.clock.pass(400);
    return found;
  });
  stream.until(() => peer.available > 0);
  expect(peer.takeReplies()).toMatchObject([{ error: NBD_OK }]);
  expect(stream.ends).toEqual([]);
});

test("the time that a request takes in the thread, as with a slow disk, is not its client's", () => {
  using stream = new IdleFixture({ idleTimeout: 300 });
  const peer = stream.connect();
  const request = encodeWrite(0, Buffer.alloc(4096));
  peer.send(request.subarray(0, 40));
  const advance = Connection.prototype.advance;
  const slow = spyOn(Connection.prototype, "advance").mockImplementation(function (
    this: Connection,
  ) {
    stream.clock.pass(400);
    advance.call(this);
  });
  stream.settle();
  slow.mockRestore();
  expect(stream.ends).toEqual([]);
  peer.send(request.subarray(40));
  stream.until(() => peer.available > 0);
  expect(peer.takeReplies()).toMatchObject([{ error: NBD_OK }]);
});

test("the timeout of requests is not for idle clients", () => {
  const { stream, peer } = idle(1, { idleTimeout: 50 });
  using _ = stream;
  stream.rest();
  expect(stream.ends).toEqual([]);
  expect(ask(stream, peer, FLUSH)).toBe(NBD_OK);
});

test("idle clients are among those that are dismissed", () => {
  const { stream, peers, peer } = idle(3);
  using _ = stream;
  expect(ask(stream, peer, encodeWrite(0, Buffer.from("x")))).toBe(NBD_OK);
  stream.rest();
  stream.command({ type: "dismiss", whom: "silent" });
  stream.until(() => stream.ends.length === 2);
  expect(stream.ends).toEqual(["dismissed", "dismissed"]);
  expect(peers.map((one) => one.finished)).toEqual([false, true, true]);
  stream.command({ type: "dismiss", whom: "all" });
  stream.until(() => stream.ends.length === 3);
  expect(stream.ends.at(-1)).toBe("left-behind");
});

test.each(["finish", "abort"] as const)("at %s, idle clients are closed, too", (how) => {
  const all = descriptors().length;
  {
    const { stream, peers } = idle(3);
    using _ = stream;
    stream.command(how === "finish" ? { type: "finish", short: "allow" } : { type: "abort" });
    stream.until(() => stream.engine.over && peers.every((peer) => peer.finished));
  }
  expect(descriptors().length).toBe(all);
});

test("idle clients that have left before the end leave no descriptor", () => {
  const all = descriptors().length;
  {
    const { stream, peers } = idle(3);
    using _ = stream;
    for (const peer of peers) stream.hangUp(peer);
    stream.until(() => stream.ends.length === 3);
  }
  expect(descriptors().length).toBe(all);
});
