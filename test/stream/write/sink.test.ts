import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { openSync } from "node:fs";
import { WakeUp } from "../../../ffi/poll.ts";
import { FileSink } from "../../../src/endpoint/sinks/file-sink.ts";
import { NBD_ESHUTDOWN, NBD_OK } from "../../../src/protocol/constants.ts";
import { Counters } from "../../../src/stream/counters.ts";
import { Engine } from "../../../src/stream/engine.ts";
import type { Command } from "../../../src/stream/messages.ts";
import { BusyPoll } from "../../../src/stream/busy-poll.ts";
import { WriteStream } from "../../../src/stream/write/write-stream.ts";
import { pseudoRandom } from "../../support/images.ts";
import { encodeWrite } from "../../support/wire.ts";
import { ask, finish, FLUSH, readOf, StreamFixture, zeroes } from "../../support/stream.ts";
import { tempFolder } from "../../support/temp.ts";
import { LIMIT } from "../../support/limit.ts";
import { told } from "../../support/told.ts";

setDefaultTimeout(LIMIT);

describe("the sink", () => {
  test("writes wait for a reader, zeroes and reads do not", () => {
    using stream = new StreamFixture({ reader: false });
    const peer = stream.connect();
    expect(ask(stream, peer, readOf(0, 0))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(5))).toBe(NBD_OK);
    peer.send(encodeWrite(5, Buffer.from("x")));
    stream.settle();
    expect(peer.available).toBe(0);
    stream.openReader();
    stream.until(() => peer.available >= 16);
    expect(peer.takeReplies()).toEqual([{ error: NBD_OK, cookie: 1n }]);
    expect(finish(stream).toString("latin1")).toBe("\0\0\0\0\0x");
  });

  test("a stalled reader holds up the client, and nothing is lost when it goes on", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const data = pseudoRandom(24 * 1024 * 1024);
    const peer = stream.connect();
    const writes: Buffer[] = [];
    for (let at = 0; at < data.length; at += 10_000) {
      writes.push(encodeWrite(at, data.subarray(at, at + 10_000)));
    }
    peer.send(...writes);
    stream.settle();
    expect(peer.allSent).toBeFalse();
    stream.stalled = false;
    const count = Math.ceil(data.length / 10_000);
    stream.until(() => peer.available >= count * 16);
    expect(finish(stream).equals(data)).toBeTrue();
  });

  test.each([100, 100_000])("a reader that dies is ESHUTDOWN to writes of %d bytes", (size) => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(size)))).toBe(NBD_OK);
    stream.closeReader();
    expect(ask(stream, peer, encodeWrite(size, pseudoRandom(size)))).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, zeroes(1, 2 * size))).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_ESHUTDOWN);
    expect(ask(stream, peer, readOf(10 * size, 0))).toBe(NBD_OK);
  });

  test("a reader that dies in the middle of a payload fails that request, in step", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    peer.send(encodeWrite(0, pseudoRandom(32 * 1024 * 1024)));
    stream.settle();
    stream.closeReader();
    stream.until(() => peer.available >= 16);
    expect(peer.takeReplies()).toEqual([{ error: NBD_ESHUTDOWN, cookie: 1n }]);
    expect(ask(stream, peer, FLUSH)).toBe(NBD_ESHUTDOWN);
  });

  test.each([
    ["in the middle", 64 * 1024 * 1024],
    ["at the end", 32 * 1024 * 1024],
  ])(
    "a reader that has taken what there is, and leaves before the rest of a payload %s of the stream comes, fails that request",
    (_, size) => {
      using stream = new StreamFixture({ size });
      stream.stalled = true;
      const peer = stream.connect();
      // Its rest is in the socket, and waits for the FIFO.
      peer.send(encodeWrite(0, pseudoRandom(32 * 1024 * 1024)));
      stream.settle();
      stream.takeAndLeave();
      stream.until(() => peer.available >= 16);
      expect(peer.takeReplies()).toEqual([{ error: NBD_ESHUTDOWN, cookie: 1n }]);
      expect(stream.broken).toBe("READER_GONE");
    },
  );

  test("a reader that has taken the last byte may leave before its client is done", () => {
    using stream = new StreamFixture({ size: 100_000 });
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, pseudoRandom(100_000)))).toBe(NBD_OK);
    stream.takeAndLeave();
    stream.settle();
    expect(stream.broken).toBeUndefined();
    stream.command({ type: "finish", short: "allow" });
    stream.until(() => stream.engine.over);
    expect(stream.broken).toBeUndefined();
  });

  test("a reader that dies is noticed without a client", () => {
    using stream = new StreamFixture();
    stream.closeReader();
    stream.until(() => stream.events.some((event) => event.type === "broken"));
    expect(stream.events.at(-1)).toMatchObject({ failure: { code: "READER_GONE" } });
  });

  test("a finish waits until the reader has taken everything", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    expect(stream.engine.over).toBeFalse();
    stream.stalled = false;
    stream.until(() => stream.sawEnd);
    expect(stream.output.toString()).toBe("abc");
  });

  test("a reader that dies before it has taken everything is a failure, even at the end", () => {
    using stream = new StreamFixture();
    stream.stalled = true;
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    stream.closeReader();
    stream.until(() => stream.engine.over);
    const broken = stream.events.find((event) => event.type === "broken");
    expect(told(broken?.failure)).toContain("3 bytes of it unread");
  });

  test("zeroes that are left for the end are not waited with where the sink takes more", () => {
    using folder = tempFolder();
    const post = () => {};
    const sink = new FileSink("file", openSync(folder.file("sparse"), "w"));
    const size = 2 ** 30;
    const options = { window: 0, remembered: 0, flushes: false, counters: new Counters(), post };
    const commands: Command[] = [{ type: "finish", short: "pad" }];
    const wake = new WakeUp();
    const engine = new Engine({
      stream: new WriteStream({ sink, size, ...options }),
      idleTimeout: undefined,
      wakeFd: wake.fd,
      receive: () => commands.shift(),
      post,
    });
    const stayAwake = spyOn(BusyPoll.prototype, "spin");
    const sleep = spyOn(BusyPoll.prototype, "sleep");
    try {
      while (!engine.over) engine.turn();
      expect(options.counters.zeroes).toBe(size);
      expect(stayAwake).not.toHaveBeenCalled();
      expect(sleep).not.toHaveBeenCalled();
    } finally {
      stayAwake.mockRestore();
      sleep.mockRestore();
      wake.close();
    }
  });

  test("an abort emits nothing more", () => {
    using stream = new StreamFixture();
    const peer = stream.connect();
    expect(ask(stream, peer, encodeWrite(0, Buffer.from("abc")))).toBe(NBD_OK);
    expect(ask(stream, peer, zeroes(100, 3))).toBe(NBD_OK);
    stream.command({ type: "abort" });
    stream.until(() => stream.sawEnd);
    expect(stream.output.toString()).toBe("abc");
  });
});
