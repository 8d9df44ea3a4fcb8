import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import {
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_OK,
} from "../../../src/protocol/constants.ts";
import type { Offset } from "../../../src/protocol/offset.ts";
import { Request } from "../../../src/protocol/request.ts";
import { WriteLog } from "../../../src/stream/dry-run/write-log.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

function request(type: number, offset: Offset, length: number): Request {
  const payload = type === NBD_CMD_WRITE ? length : 0;
  return Object.assign(new Request(), { type, offset, length, payload });
}

const write = (log: WriteLog, offset: Offset, length: number) =>
  log.write(request(NBD_CMD_WRITE, offset, length));
const zero = (log: WriteLog, offset: Offset, length: number) =>
  log.zero(request(NBD_CMD_WRITE_ZEROES, offset, length));
const read = (log: WriteLog, offset: Offset, length: number) =>
  log.read(request(NBD_CMD_READ, offset, length));

function recorded(...writes: readonly (readonly [number, number])[]): WriteLog {
  const log = new WriteLog(64 * GiB, 64 * MiB);
  for (const [offset, length] of writes) expect(write(log, offset, length)).toBe(NBD_OK);
  return log;
}

describe("a client in order", () => {
  test("needs no window, gaps or not", () => {
    const { findings } = recorded([0, MiB], [MiB, 512], [5 * MiB, MiB]);
    expect(findings).toMatchObject({
      writes: { requests: 3, bytes: 2 * MiB + 512 },
      gaps: { requests: 1, bytes: 4 * MiB - 512 },
      backward: { requests: 0, bytes: 0 },
      places: [],
      farthest: 0,
      end: 6 * MiB,
      window: { size: 0, needed: 0, largest: GiB },
      spool: { needed: MiB },
    });
  });

  test("may zero the disk first, and what it has left out", () => {
    const log = recorded();
    expect(zero(log, 0, 10 * MiB)).toBe(NBD_OK);
    write(log, MiB, MiB);
    write(log, 4 * MiB, MiB);
    expect(zero(log, 3 * MiB, MiB)).toBe(NBD_OK);
    const { findings } = log;
    expect(findings.backward.requests).toBe(0);
    expect(findings.gaps.requests).toBe(0);
    expect(findings.zeroes).toEqual({ requests: 2, bytes: 11 * MiB });
    expect(findings.end).toBe(10 * MiB);
    expect(findings.window?.size).toBe(0);
  });
});

describe("a client out of order", () => {
  test("shows every place, how far back it is, and the window with room for it", () => {
    const { findings } = recorded([2 * MiB, MiB], [0, MiB], [MiB, MiB]);
    expect(findings.backward).toEqual({ requests: 2, bytes: 2 * MiB });
    expect(findings.places).toEqual([
      {
        request: `NBD_CMD_WRITE of ${MiB} bytes at 0`,
        offset: 0,
        length: MiB,
        head: 3 * MiB,
      },
      {
        request: `NBD_CMD_WRITE of ${MiB} bytes at ${MiB}`,
        offset: MiB,
        length: MiB,
        head: 3 * MiB,
      },
    ]);
    expect(findings.farthest).toBe(3 * MiB);
    expect(findings.window).toEqual({ size: MiB, needed: MiB, largest: GiB });
    expect(findings.spool).toEqual({ needed: MiB });
  });

  test("needs a window for the memory, not the distance", () => {
    const { findings } = recorded([60 * GiB, 64 * KiB], [0, 64 * KiB]);
    expect(findings.window).toEqual({ size: MiB, needed: 64 * KiB, largest: GiB });
  });

  test("needs a window that is large enough for all that comes first", () => {
    for (const megabytes of [1, 2, 3, 17, 100]) {
      const { findings } = recorded([MiB, megabytes * MiB], [0, MiB]);
      expect(findings.window?.size).toBe(2 ** Math.ceil(Math.log2(megabytes)) * MiB);
    }
  });

  test("that rewrites what it has written has no window", () => {
    const { findings } = recorded([0, MiB], [0, 512]);
    expect(findings.window).toBeUndefined();
    expect(findings.spool).toBeUndefined();
    expect(findings.backward).toEqual({ requests: 1, bytes: 512 });
  });

  test("that scatters its data has a window, as far as it is followed", () => {
    const log = recorded();
    for (let i = 10_000; i > 0; i--) write(log, 2 * i * MiB, 4096);
    expect(log.findings).toMatchObject({
      window: { size: GiB, needed: 9_999 * 64 * KiB },
      scattered: false,
    });
    expect(log.findings.backward.requests).toBe(9_999);
    expect(log.findings.places.length).toBeLessThan(20);
    const scattered = recorded();
    for (let i = 17_000; i > 0; i--) write(scattered, i * KiB, 512);
    expect(scattered.findings).toMatchObject({ window: undefined, scattered: true });
    expect(scattered.findings.spool).toEqual({ needed: 17_000 * 512 });
  });

  test("has a spool for what no window has room for", () => {
    const { findings } = recorded([3 * GiB, 2 * GiB], [GiB, 2 * GiB], [0, GiB]);
    expect(findings).toMatchObject({ window: undefined, spool: { needed: 4 * GiB } });
  });

  test("needs room in a spool for what is ahead of its turn at once, not for all of it", () => {
    const { findings } = recorded([MiB, MiB], [0, MiB], [3 * MiB, 512], [2 * MiB, MiB]);
    expect(findings.spool).toEqual({ needed: MiB });
  });

  test("has a spool if it zeroes the disk and then writes it, but not if it zeroes what it has written", () => {
    const log = recorded();
    expect(zero(log, 0, 8 * GiB)).toBe(NBD_OK);
    for (const at of [6, 2, 4, 0]) write(log, at * GiB, 2 * GiB);
    expect(log.findings).toMatchObject({ window: undefined, spool: { needed: 6 * GiB } });
    expect(zero(log, 0, MiB)).toBe(NBD_OK);
    expect(log.findings.spool).toBeUndefined();
  });

  test("has no spool if it writes into zeroes that have let go by what is behind them", () => {
    const log = recorded([MiB, MiB]);
    expect(zero(log, 0, MiB)).toBe(NBD_OK);
    expect(log.findings.spool).toEqual({ needed: MiB });
    expect(write(log, 0, 512)).toBe(NBD_OK);
    expect(log.findings).toMatchObject({ spool: undefined, window: { size: MiB } });
  });

  test("has no window if it goes back to what was written in order", () => {
    const { findings } = recorded([0, MiB], [2 * MiB, MiB], [512 * KiB, 512]);
    expect(findings).toMatchObject({ window: undefined, undecided: false, scattered: false });
  });

  test("has the smallest window of those that the rule admits, in any order", () => {
    const order = fc.shuffledSubarray(
      Array.from({ length: 48 }, (_, i) => i),
      { minLength: 48 },
    );
    fc.assert(
      fc.property(order, (blocks) => {
        const BLOCK = 64 * KiB;
        const { findings } = recorded(...blocks.map((i) => [i * BLOCK, BLOCK] as const));
        // The most blocks that wait at a time for one before them.
        let most = 0;
        let head = 0;
        const held = new Set<number>();
        for (const i of blocks) {
          if (i === head) {
            head++;
            while (held.delete(head)) head++;
          } else {
            held.add(i);
          }
          most = Math.max(most, held.size);
        }
        expect(findings.window?.size).toBe(
          most === 0 ? 0 : most <= 16 ? MiB : most <= 32 ? 2 * MiB : 4 * MiB,
        );
      }),
    );
  });
});

describe("a client that reads", () => {
  test("gets zeroes of what has not been reached, and nothing of what has gone by", () => {
    const log = recorded([0, MiB]);
    expect(read(log, MiB, 512)).toBe(NBD_OK);
    expect(log.data(request(NBD_CMD_READ, MiB, 512))).toBeUndefined();
    expect(read(log, MiB - 1, 512)).toBe(NBD_EIO);
    expect(log.findings).toMatchObject({
      reads: { requests: 2, bytes: 1024 },
      readsHeld: { requests: 0 },
      readsBack: { requests: 1, bytes: 512 },
      window: { size: 0, largest: GiB },
    });
  });

  test("gets what the window holds, for which it has to be that large", () => {
    const log = recorded([8 * MiB, MiB]);
    expect(log.put(8 * MiB, Buffer.alloc(MiB, 7))).toBe(NBD_OK);
    expect(read(log, 8 * MiB - 1, 3)).toBe(NBD_OK);
    expect(log.data(request(NBD_CMD_READ, 8 * MiB - 1, 3))).toEqual(new Uint8Array([0, 7, 7]));
    zero(log, 8 * MiB, 1);
    expect(log.data(request(NBD_CMD_READ, 8 * MiB - 1, 3))).toEqual(new Uint8Array([0, 0, 7]));
    expect(log.findings).toMatchObject({
      readsHeld: { requests: 2, bytes: 6 },
      window: { size: MiB, needed: MiB },
      undecided: false,
    });
  });

  test("that may have fared better with a larger window is not judged by a smaller one", () => {
    const log = recorded([MiB, 64 * MiB], [80 * MiB, MiB]);
    // The smaller window has let the first go, to have room for the second.
    expect(read(log, 2 * MiB, 512)).toBe(NBD_EIO);
    expect(log.findings).toMatchObject({
      readsBack: { requests: 1 },
      undecided: true,
      window: { size: 0, largest: 64 * MiB },
      spool: undefined,
    });
    const larger = new WriteLog(64 * GiB, GiB);
    write(larger, MiB, 64 * MiB);
    write(larger, 80 * MiB, MiB);
    expect(read(larger, 2 * MiB, 512)).toBe(NBD_OK);
    expect(larger.findings).toMatchObject({
      undecided: false,
      window: { size: 128 * MiB, largest: GiB },
    });
  });

  test("of what is late even so is not told anything else by larger windows", () => {
    const log = recorded([MiB, 64 * MiB], [80 * MiB, MiB], [0, MiB]);
    // Of all windows that are left, none has a gap before it any more.
    expect(read(log, 2 * MiB, 512)).toBe(NBD_EIO);
    expect(log.findings).toMatchObject({ undecided: false, window: { size: 128 * MiB } });
  });

  test("and asks what there is, is told of what is held", () => {
    const log = recorded([0, MiB], [2 * MiB, MiB]);
    expect(log.dataAt(0, GiB)).toEqual([true, MiB]);
    expect(log.findings.window?.size).toBe(MiB);
    expect(log.dataAt(MiB, GiB)).toEqual([false, 2 * MiB]);
    expect(log.dataAt(2 * MiB, 2 * MiB + 512)).toEqual([true, 2 * MiB + 512]);
  });
});

test("the end of the disk is in whole sectors, and nothing is behind it", () => {
  const log = new WriteLog(1000, 64 * MiB);
  expect(write(log, 512, 512)).toBe(NBD_OK);
  expect(log.findings.end).toBe(1000);
  expect(write(log, 512, 513)).toBe(NBD_ENOSPC);
  expect(zero(log, 1024, 1)).toBe(NBD_ENOSPC);
  expect(read(log, 1024, 1)).toBe(NBD_EINVAL);
  expect(log.findings.writes.requests).toBe(1);
});

test("behind the end, in its sector, there may only be zeroes", () => {
  const log = new WriteLog(1000, 64 * MiB);
  write(log, 0, 1024);
  expect(log.put(0, Buffer.alloc(1000, 1))).toBe(NBD_OK);
  expect(log.put(1000, Buffer.alloc(24))).toBe(NBD_OK);
  expect(log.put(990, Buffer.alloc(11, 1))).toBe(NBD_ENOSPC);
  expect(log.put(1000, Buffer.alloc(1, 1))).toBe(NBD_ENOSPC);
});
