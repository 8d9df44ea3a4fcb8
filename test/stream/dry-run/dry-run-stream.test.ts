import { expect, test } from "bun:test";
import { O_RDWR } from "../../../ffi/constants.ts";
import { open } from "../../../ffi/fd.ts";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_OK,
} from "../../../src/protocol/constants.ts";
import type { Offset } from "../../../src/protocol/offset.ts";
import { DryRunStream } from "../../../src/stream/dry-run/dry-run-stream.ts";
import { SpoolFile } from "../../../src/stream/spool-file.ts";
import { takeAnswer, takeStatus } from "../../support/answer.ts";
import { DryRunFixture, spoolOf } from "../../support/dry-runs.ts";
import { pseudoRandom } from "../../support/images.ts";
import {
  encodeExtended,
  encodeExtendedWrite,
  encodeRequest,
  encodeWithPayload,
  encodeWrite,
} from "../../support/wire.ts";

const MiB = 1024 * 1024;

class SurveyFixture extends DryRunFixture {
  constructor(size: Offset) {
    super(
      ({ counters, post }) =>
        new DryRunStream({ size, window: 64 * MiB, spool: undefined, counters, post }),
    );
  }
}

test("writes are taken in any order, and remembered", () => {
  using stream = new SurveyFixture(16 * MiB);
  const peer = stream.connect();
  const payload = Buffer.alloc(MiB, 1);
  for (const offset of [4 * MiB, 0, 2 * MiB]) {
    expect(stream.ask(peer, encodeWrite(offset, payload))).toBe(NBD_OK);
  }
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, 8 * MiB, MiB))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_FLUSH, 0, 0))).toBe(NBD_OK);
  peer.send(encodeRequest(NBD_CMD_DISC, 0, 0));
  stream.until(() => stream.ends.length === 1);
  expect(stream.ends).toEqual(["disconnected"]);
  expect(stream.broken).toBeUndefined();
  expect(stream.counters.data).toBe(3 * MiB);
  expect(stream.finish()).toMatchObject({
    writes: { requests: 3, bytes: 3 * MiB },
    zeroes: { requests: 1, bytes: MiB },
    backward: { requests: 2, bytes: 2 * MiB },
    flushes: 1,
    concurrent: false,
    end: 9 * MiB,
  });
});

test("writes that come before the last one is answered are told from those that wait", () => {
  using stream = new SurveyFixture(MiB);
  const peer = stream.connect();
  peer.send(encodeWrite(0, Buffer.alloc(512)), encodeWrite(512, Buffer.alloc(512)));
  stream.until(() => peer.available >= 32);
  expect(stream.finish().concurrent).toBeTrue();
});

test("what has gone by cannot be read back, and that is told once", () => {
  using stream = new SurveyFixture(MiB);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeWrite(0, Buffer.alloc(4096)))).toBe(NBD_OK);
  for (let i = 0; i < 3; i++) {
    expect(stream.ask(peer, encodeRequest(NBD_CMD_READ, 0, 512))).toBe(NBD_EIO);
  }
  expect(stream.events.filter(({ type }) => type === "read-back")).toHaveLength(1);
  peer.send(encodeRequest(NBD_CMD_READ, 4096, 512));
  stream.until(() => peer.available >= 16 + 512);
  const answer = peer.take(16 + 512);
  expect(answer.readUInt32BE(4)).toBe(NBD_OK);
  expect(answer.subarray(16).every((byte) => byte === 0)).toBeTrue();
  expect(stream.finish().readsBack).toEqual({ requests: 3, bytes: 1536 });
});

test("what is ahead of its turn is read back as it was written, however it came", () => {
  using stream = new SurveyFixture(16 * MiB);
  const peer = stream.connect();
  const payload = pseudoRandom(3 * MiB, 9);
  expect(stream.ask(peer, encodeWrite(8 * MiB, payload))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeWrite(9 * MiB, payload.subarray(0, 1000)))).toBe(NBD_OK);
  payload.copy(payload, MiB, 0, 1000);
  peer.send(encodeRequest(NBD_CMD_READ, 8 * MiB, payload.length));
  stream.until(() => peer.available >= 16 + payload.length);
  expect(
    peer
      .take(16 + payload.length)
      .subarray(16)
      .equals(payload),
  ).toBeTrue();
  expect(stream.finish()).toMatchObject({
    readsHeld: { requests: 1, bytes: payload.length },
    window: { size: 4 * MiB },
  });
});

test("a client that zeroes one sector to make the disk, and goes, has not moved the stream", () => {
  using stream = new SurveyFixture(MiB);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, 0, 512))).toBe(NBD_OK);
  stream.hangUp(peer);
  stream.until(() => stream.ends.length === 1);
  expect(stream.events.findLast(({ type }) => type === "closed")).toMatchObject({
    end: "dropped",
    streamed: false,
  });
});

test("data in the last sector's rest is refused as by a real stream", () => {
  using stream = new SurveyFixture(1000);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeWrite(0, Buffer.alloc(1024, 1)))).toBe(NBD_ENOSPC);
  expect(stream.events.filter(({ type }) => type === "refused")).toHaveLength(1);
});

test("what a real stream would refuse is refused", () => {
  using stream = new SurveyFixture(MiB);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeWrite(MiB, Buffer.alloc(512)))).toBe(NBD_ENOSPC);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, MiB, 1))).toBe(NBD_ENOSPC);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_READ, MiB, 1))).toBe(NBD_EINVAL);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_TRIM, 0, 1))).toBe(NBD_EINVAL);
  const flags = encodeRequest(NBD_CMD_WRITE, 0, 1, { flags: 1 << 15 });
  expect(stream.ask(peer, flags, Buffer.alloc(1))).toBe(NBD_EINVAL);
  const refused = stream.events.flatMap((event) => (event.type === "refused" ? [event.error] : []));
  expect(refused).toEqual([NBD_ENOSPC, NBD_ENOSPC, NBD_EINVAL]);
  expect(stream.finish().writes.requests).toBe(0);
});

test("a client that is lost in the middle of a write is told", () => {
  using stream = new SurveyFixture(MiB);
  const peer = stream.connect();
  peer.send(encodeWrite(0, Buffer.alloc(4096)).subarray(0, 1000));
  stream.settle();
  stream.hangUp(peer);
  stream.until(() => stream.ends.length === 1);
  expect(stream.ends).toEqual(["cut"]);
});

test("clients with extended headers are recorded and answered as others, with lengths of 64 bits", () => {
  const size = 2n ** 62n;
  using stream = new SurveyFixture(size);
  stream.negotiated = { extended: true, allocation: true };
  const peer = stream.connect();
  const ask = (request: Buffer) => {
    peer.send(request);
    const [cookie, offset] = [request.readBigUInt64BE(8), request.readBigUInt64BE(16)];
    const about = { cookie, offset, length: 0, structured: true, extended: true };
    return takeAnswer(stream, peer, about).error;
  };
  const zeroes = (offset: Offset, length: Offset) =>
    encodeExtended(NBD_CMD_WRITE_ZEROES, offset, length);
  expect(ask(encodeExtendedWrite(MiB, Buffer.alloc(4096)))).toBe(NBD_OK);
  expect(ask(encodeExtendedWrite(0, Buffer.alloc(4096)))).toBe(NBD_OK);
  expect(ask(zeroes(2 * MiB, 2n ** 61n))).toBe(NBD_OK);
  expect(ask(encodeExtended(NBD_CMD_FLUSH, 0, 0))).toBe(NBD_OK);
  expect(ask(zeroes(0, size + 1n))).toBe(NBD_ENOSPC);
  // What is not as it must be is told as well where it would have changed the stream.
  for (const type of [NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS]) {
    expect(ask(encodeWithPayload(type, 0, Buffer.alloc(100_000, zeroes(0, 1))))).toBe(NBD_EINVAL);
  }
  const refused = stream.events.flatMap((event) => (event.type === "refused" ? [event.error] : []));
  expect(refused).toEqual([NBD_ENOSPC, NBD_EINVAL]);
  const all = encodeExtended(NBD_CMD_BLOCK_STATUS, 2 * MiB, size - BigInt(2 * MiB), { cookie: 9n });
  peer.send(all);
  const offset = 2 * MiB;
  expect(takeStatus(stream, peer, { offset, cookie: 9n })).toEqual([[size - BigInt(offset), 3]]);
  expect(stream.finish()).toMatchObject({
    writes: { requests: 2, bytes: 8192 },
    zeroes: { requests: 1, bytes: 2 ** 61 },
    backward: { requests: 1, bytes: 4096 },
    flushes: 1,
    end: 2n ** 61n + BigInt(2 * MiB),
  });
});

test("with a spool, what is far ahead of its turn is read back, and what has gone by is not", () => {
  using stream = new DryRunFixture(({ counters, post }) => {
    const spool = spoolOf(counters);
    return new DryRunStream({ size: 2 ** 40, window: 0, spool, counters, post });
  });
  const peer = stream.connect();
  const payload = pseudoRandom(MiB, 9);
  const far = 2 ** 39;
  expect(stream.ask(peer, encodeWrite(far, payload))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, far, 4096))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeWrite(0, payload))).toBe(NBD_OK);
  peer.send(encodeRequest(NBD_CMD_READ, far, MiB));
  stream.until(() => peer.available >= 16 + MiB);
  const read = peer.take(16 + MiB).subarray(16);
  expect(read.equals(Buffer.concat([Buffer.alloc(4096), payload.subarray(4096)]))).toBeTrue();
  expect(stream.ask(peer, encodeRequest(NBD_CMD_READ, 0, 512))).toBe(NBD_EIO);
  expect(stream.counters.mostSpooled).toBeGreaterThan(0);
  expect(stream.finish()).toMatchObject({
    ...{ readsHeld: { requests: 1 }, readsBack: { requests: 1 } },
    ...{ spool: { needed: MiB }, window: { size: MiB }, undecided: false },
  });
});

test("a spool that has no room breaks the dry run as it would break the stream", () => {
  using stream = new DryRunFixture(({ counters, post }) => {
    const fd = open("/dev/full", O_RDWR);
    const full = { fd, folder: "/dev", punches: true, zeroesInPlace: true };
    const spool = new SpoolFile(full, counters);
    return new DryRunStream({ size: 2 ** 40, window: 0, spool, counters, post });
  });
  const peer = stream.connect();
  peer.send(encodeWrite(MiB, pseudoRandom(MiB)));
  stream.until(() => stream.broken !== undefined);
  expect(stream.broken).toBe("SPOOL_FAILED");
});
