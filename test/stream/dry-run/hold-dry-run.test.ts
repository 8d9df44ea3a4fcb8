import { expect, test } from "bun:test";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE_ZEROES,
  NBD_ENOSPC,
  NBD_OK,
} from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { type Offset, toOffset } from "../../../src/protocol/offset.ts";
import { HoldDryRun } from "../../../src/stream/dry-run/hold-dry-run.ts";
import { DryRunFixture, spoolOf } from "../../support/dry-runs.ts";
import { pseudoRandom } from "../../support/images.ts";
import type { Peer } from "../../support/peer.ts";
import { encodeRequest, encodeWrite } from "../../support/wire.ts";

const MiB = 1024 * 1024;

class HoldFixture extends DryRunFixture {
  constructor(size: Offset) {
    super(
      ({ counters, post }) => new HoldDryRun({ spool: spoolOf(counters), size, counters, post }),
    );
  }

  read(peer: Peer, offset: number, length: number): Buffer {
    peer.send(encodeRequest(NBD_CMD_READ, offset, length));
    this.until(() => peer.available >= 16 + length);
    return peer.take(16 + length).subarray(16);
  }
}

test("a client that rewrites, trims and reads gets an ordinary disk, and is recorded", () => {
  using stream = new HoldFixture(16 * MiB);
  const peer = stream.connect();
  const [one, two] = [pseudoRandom(MiB, 1), pseudoRandom(4096, 2)];
  expect(stream.ask(peer, encodeWrite(4 * MiB, one))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeWrite(4 * MiB, two))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, 0, MiB))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_TRIM, 5 * MiB, MiB))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeRequest(NBD_CMD_FLUSH, 0, 0))).toBe(NBD_OK);
  const want = Buffer.concat([two, one.subarray(4096)]);
  expect(stream.read(peer, 4 * MiB, MiB).equals(want)).toBeTrue();
  peer.send(encodeRequest(NBD_CMD_DISC, 0, 0));
  stream.until(() => stream.ends.length === 1);
  const findings = stream.finish();
  expect(stream.broken).toBeUndefined();
  expect(findings).toMatchObject({
    writes: { requests: 2, bytes: MiB + 4096 },
    zeroes: { requests: 1, bytes: MiB },
    reads: { requests: 1, bytes: MiB },
    readsBack: { requests: 1, bytes: MiB },
    backward: { requests: 1, bytes: 4096 },
    ...{ flushes: 1, concurrent: false, end: 5 * MiB },
  });
  expect(findings.held).toBeGreaterThanOrEqual(MiB);
});

test("writes that come before the last one is answered are told", () => {
  using stream = new HoldFixture(MiB);
  const peer = stream.connect();
  peer.send(encodeWrite(0, Buffer.alloc(512)), encodeWrite(512, Buffer.alloc(512)));
  stream.until(() => peer.available >= 32);
  expect(stream.finish().concurrent).toBeTrue();
});

test("what the disk begins with is told in the end, as it is by then", () => {
  using stream = new HoldFixture(MiB);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeWrite(0, Buffer.from("nothing yet")))).toBe(NBD_OK);
  expect(stream.ask(peer, encodeWrite(0, Buffer.from("QFI\xfb", "latin1")))).toBe(NBD_OK);
  stream.finish();
  const begins = stream.events.flatMap((event) =>
    event.type === "first-bytes" ? [Buffer.from(event.bytes).toString("latin1")] : [],
  );
  expect(begins).toEqual(["QFI\xfbing yet".padEnd(512, "\0")]);
});

test("a client that zeroes a disk without an end is told at 16 TiB that there is no room, and is found so", () => {
  using stream = new HoldFixture(toOffset(UNBOUNDED_SIZE));
  const peer = stream.connect();
  const zero = (offset: number) => encodeRequest(NBD_CMD_WRITE_ZEROES, offset, 2 ** 31);
  expect(stream.ask(peer, zero(0))).toBe(NBD_OK);
  expect(stream.ask(peer, zero(2 ** 44 - 2 ** 31))).toBe(NBD_OK);
  expect(stream.ask(peer, zero(2 ** 44))).toBe(NBD_ENOSPC);
  expect(stream.events.filter(({ type }) => type === "refused")).toHaveLength(1);
  expect(stream.finish().end).toBe(toOffset(UNBOUNDED_SIZE));
});

test("a disk with an end is zeroed to there, however large it is", () => {
  using stream = new HoldFixture(2 ** 46);
  const peer = stream.connect();
  expect(stream.ask(peer, encodeRequest(NBD_CMD_WRITE_ZEROES, 2 ** 46 - 4096, 4096))).toBe(NBD_OK);
  expect(stream.finish().end).toBe(2 ** 46);
});
