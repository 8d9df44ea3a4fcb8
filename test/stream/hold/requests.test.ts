/** An ordinary disk, clause by clause (doc/proto.md). */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, statfsSync } from "node:fs";
import { ERRNO } from "../../../ffi/constants.ts";
import { SyscallError } from "../../../ffi/errno.ts";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_ESHUTDOWN,
  NBD_OK,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from "../../../src/protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../../../src/protocol/export.ts";
import { SpoolError, type SpoolFile } from "../../../src/stream/spool-file.ts";
import { DiskClient, type Form } from "../../support/disk-client.ts";
import { HoldFixture, MiB } from "../../support/hold.ts";
import { pseudoRandom } from "../../support/images.ts";
import { LIMIT } from "../../support/limit.ts";
import { DISC, finish } from "../../support/stream.ts";
import { encodeExtended, encodeRequest } from "../../support/wire.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const FORMS: Form[] = ["compact", "structured", "extended"];
const DATA = pseudoRandom(32 * MiB);
/** Data, and a hole. */
const STATES = { data: 0, hole: 3 };

const request =
  (type: number) =>
  (offset: number, length: number, flags = 0) => ({ type, offset, length, flags });
const write = (offset: number, payload: Uint8Array, flags = 0) =>
  [{ type: NBD_CMD_WRITE, offset, length: payload.length, flags }, payload] as const;
const zero = request(NBD_CMD_WRITE_ZEROES);
const trim = request(NBD_CMD_TRIM);
const read = request(NBD_CMD_READ);
const status = request(NBD_CMD_BLOCK_STATUS);
const flush = (flags = 0) => ({ type: NBD_CMD_FLUSH, offset: 0, length: 0, flags });

/** Makes a method of the spool fail from its n-th call on, as the disk would. */
function failing(spool: SpoolFile, method: "read" | "write" | "dataAt", errno: number, nth = 1) {
  const real = spool[method].bind(spool) as (...args: unknown[]) => unknown;
  let calls = 0;
  const call = (...args: unknown[]) => {
    if (++calls >= nth) throw new SpoolError(new SyscallError(method, errno));
    return real(...args);
  };
  Object.assign(spool, { [method]: call });
}

describe("WRITE", () => {
  const sizes = [1, 511, 4096, 32 * KiB - 1, 32 * KiB, 32 * KiB + 1, 100_000, MiB, 32 * MiB];

  test.each(sizes)(
    "of %d bytes, at any offset and in any form, reads back and comes out",
    (length) => {
      const payload = DATA.subarray(0, length);
      for (const form of length < MiB ? FORMS : FORMS.slice(2)) {
        using stream = new HoldFixture();
        const client = new DiskClient(stream, form);
        expect(client.ask(...write(12_345, payload)).error).toBe(NBD_OK);
        expect(client.ask(read(12_345, length)).data.equals(payload)).toBeTrue();
        const output = finish(stream);
        expect(output.length).toBe(12_345 + length);
        expect(output.subarray(12_345).equals(payload)).toBeTrue();
        expect(output.subarray(0, 12_345).equals(Buffer.alloc(12_345))).toBeTrue();
      }
    },
  );

  test("of what was written before replaces it, and nothing comes out before the end", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    for (const [at, text] of [
      [4, "tttt"],
      [0, "frst"],
      [2, "wasn"],
    ] as const) {
      expect(client.ask(...write(at, Buffer.from(text))).error).toBe(NBD_OK);
    }
    stream.settle();
    expect(stream.output.length).toBe(0);
    expect(stream.counters.emitted).toBe(0);
    expect(finish(stream).toString()).toBe("frwasntt");
  });

  test("may have NBD_CMD_FLAG_FUA, which all commands have to accept", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    const fua = NBD_CMD_FLAG_FUA;
    expect(client.ask(...write(0, DATA.subarray(0, 4096), fua)).error).toBe(NBD_OK);
    expect(client.ask(zero(512, 512, fua)).error).toBe(NBD_OK);
    expect(client.ask(trim(1024, 512, fua)).error).toBe(NBD_OK);
    expect(client.ask(read(0, 4096, fua)).error).toBe(NBD_OK);
    expect(client.ask(status(0, 4096, fua)).error).toBe(NBD_OK);
    expect(client.ask(flush(fua)).error).toBe(NBD_OK);
  });

  test.each([
    NBD_CMD_FLAG_NO_HOLE,
    NBD_CMD_FLAG_DF,
    NBD_CMD_FLAG_REQ_ONE,
    NBD_CMD_FLAG_FAST_ZERO,
    32,
    1 << 15,
  ])(
    "with the flag %d, which it does not have, is refused, and its payload is skipped",
    (flags) => {
      using stream = new HoldFixture();
      const client = new DiskClient(stream);
      for (const length of [100, 40_000]) {
        expect(client.ask(...write(0, DATA.subarray(0, length), flags)).error).toBe(NBD_EINVAL);
      }
      expect(stream.event("refused")).toMatchObject({ error: NBD_EINVAL });
      expect(client.ask(read(0, 100)).data.equals(Buffer.alloc(100))).toBeTrue();
    },
  );

  test.each([
    [64 * MiB, 1],
    [64 * MiB - 1, 2],
    [64 * MiB - 50_000, 100_000],
  ])(
    "past the end, at %d of %d bytes, has no room, and the stream lacks its data",
    (at, length) => {
      using stream = new HoldFixture();
      const client = new DiskClient(stream);
      expect(client.ask(...write(at, DATA.subarray(0, length))).error).toBe(NBD_ENOSPC);
      expect(stream.event("refused")).toMatchObject({ error: NBD_ENOSPC });
      expect(stream.broken).toBeUndefined();
      const last = 64 * MiB - 10;
      expect(client.ask(read(last, 10)).data.equals(Buffer.alloc(10))).toBeTrue();
    },
  );

  test("of no bytes changes nothing, wherever it is", () => {
    using stream = new HoldFixture({ size: 1000, reconnect: true });
    const client = new DiskClient(stream);
    for (const at of [0, 500, 1024]) {
      expect(client.ask(...write(at, new Uint8Array(0))).error).toBe(NBD_OK);
      expect(client.ask(zero(at, 0)).error).toBe(NBD_OK);
      expect(client.ask(trim(at, 0)).error).toBe(NBD_OK);
    }
    expect(client.ask(...write(5000, new Uint8Array(0))).error).toBe(NBD_ENOSPC);
    expect(stream.event("refused")).toBeUndefined();
    expect(stream.status()).toMatchObject({ active: 0, end: 0 });
    expect(finish(stream).length).toBe(0);
  });

  test("is answered in order with all that was sent before and behind it", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "extended");
    const cookies = [];
    for (let i = 0; i < 200; i++) {
      cookies.push(client.send(...write(i * 1000, DATA.subarray(i, i + 1000))));
      cookies.push(client.send(read(i * 1000, 1000)));
    }
    for (const [i, cookie] of cookies.entries()) {
      const answer = client.take();
      expect(answer.cookie).toBe(cookie);
      const n = i >> 1;
      if (i % 2 === 1) expect(answer.data.equals(DATA.subarray(n, n + 1000))).toBeTrue();
    }
  });
});

describe("the last sector, of which the stream has a part", () => {
  /** Through memory, and by splice(2). */
  const lengths = [1000, MiB + 1000];

  test.each(lengths)("takes zeroes behind the end of %d bytes", (size) => {
    using stream = new HoldFixture({ size });
    const client = new DiskClient(stream);
    const whole = Buffer.alloc(Math.ceil(size / 512) * 512);
    DATA.copy(whole, 0, 0, size);
    expect(client.ask(...write(0, whole)).error).toBe(NBD_OK);
    expect(client.ask(read(0, whole.length)).data.equals(whole)).toBeTrue();
    // All of it is behind the end.
    expect(client.ask(...write(size + 5, new Uint8Array(7))).error).toBe(NBD_OK);
    expect(client.ask(zero(size + 5, 7)).error).toBe(NBD_OK);
    expect(client.ask(zero(size - 5, whole.length - size + 5)).error).toBe(NBD_OK);
    expect(stream.status().end).toBe(size);
    whole.fill(0, size - 5);
    expect(finish(stream).equals(whole.subarray(0, size))).toBeTrue();
  });

  test.each(lengths)("has no room for data behind the end of %d bytes", (size) => {
    using stream = new HoldFixture({ size });
    const client = new DiskClient(stream);
    const whole = DATA.subarray(0, Math.ceil(size / 512) * 512);
    expect(client.ask(...write(0, whole)).error).toBe(NBD_ENOSPC);
    expect(stream.event("refused")).toMatchObject({ error: NBD_ENOSPC });
    expect(stream.broken).toBeUndefined();
    expect(client.ask(read(size, 10)).data.equals(Buffer.alloc(10))).toBeTrue();
  });
});

describe("READ", () => {
  test.each(FORMS)("gives data and holes, %s", (form) => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, form);
    const disk = Buffer.alloc(34 * MiB);
    for (const at of [0, 300_000, 5 * MiB + 7, 31 * MiB]) {
      DATA.copy(disk, at, at, at + 70_000);
      client.ask(...write(at, DATA.subarray(at, at + 70_000)));
    }
    for (const [at, length] of [
      [0, 1],
      [69_000, 2000],
      [0, 64 * KiB],
      [100, 64 * KiB + 1],
      [0, 4 * MiB],
      [2 * MiB, 2 * MiB],
      [MiB + 13, 32 * MiB],
    ] as const) {
      const { error, data } = client.ask(read(at, length));
      expect(error).toBe(NBD_OK);
      expect(data.equals(disk.subarray(at, at + length)), `${length} at ${at}`).toBeTrue();
    }
  });

  test("in chunks leaves holes out, and is in one piece if the client wants that", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.ask(...write(MiB, DATA.subarray(0, 300 * KiB)));
    client.ask(...write(4 * MiB, DATA.subarray(0, 4096)));
    const { chunks } = client.ask(read(0, 8 * MiB));
    const holes = chunks.filter(({ type }) => type === NBD_REPLY_TYPE_OFFSET_HOLE);
    const left = holes.reduce((sum, { length }) => sum + length, 0);
    expect(left).toBeGreaterThanOrEqual(7 * MiB);
    // "the server MUST send at most one content chunk".
    const whole = client.ask(read(0, 8 * MiB, NBD_CMD_FLAG_DF));
    expect(whole.chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_DATA, length: 8 * MiB }]);
    expect(whole.data.subarray(4 * MiB, 4 * MiB + 4096).equals(DATA.subarray(0, 4096))).toBeTrue();
    const none = client.ask(read(5 * MiB, MiB, NBD_CMD_FLAG_DF));
    expect(none.chunks).toEqual([{ type: NBD_REPLY_TYPE_OFFSET_HOLE, length: MiB }]);
  });

  test.each(FORMS)("of what is not there is not valid, %s", (form) => {
    using stream = new HoldFixture({ size: 100 * MiB });
    const client = new DiskClient(stream, form);
    expect(client.ask(read(100 * MiB - 1, 2)).error).toBe(NBD_EINVAL);
    expect(client.ask(read(0, 32 * MiB + 1)).error).toBe(NBD_EINVAL);
    expect(client.ask(read(0, 100, NBD_CMD_FLAG_NO_HOLE)).error).toBe(NBD_EINVAL);
    const fragment = form === "compact" ? NBD_EINVAL : NBD_OK;
    expect(client.ask(read(0, 100, NBD_CMD_FLAG_DF)).error).toBe(fragment);
    expect(client.ask(read(100 * MiB, 0)).error).toBe(NBD_OK);
    expect(stream.event("refused")).toBeUndefined();
  });

  test.each(FORMS)(
    "of a spool that cannot be read is an error, and breaks the stream, %s",
    (form) => {
      using stream = new HoldFixture();
      const client = new DiskClient(stream, form);
      client.ask(...write(0, DATA.subarray(0, 100)));
      failing(stream.stream.spool, "read", ERRNO.EIO);
      expect(client.ask(read(0, 100)).error).toBe(NBD_EIO);
      expect(stream.broken).toBe("SPOOL_FAILED");
      expect(client.ask(flush()).error).toBe(NBD_EIO);
    },
  );

  test.each(["structured", "extended"] as const)(
    "that fails in the middle has an error behind the chunks that are right, %s",
    (form) => {
      using stream = new HoldFixture();
      const client = new DiskClient(stream, form);
      client.ask(...write(0, DATA.subarray(0, MiB)));
      failing(stream.stream.spool, "read", ERRNO.EIO, 3);
      const { error, data, chunks } = client.ask(read(0, MiB));
      expect(error).toBe(NBD_EIO);
      expect(chunks.at(-1)?.type).toBe(NBD_REPLY_TYPE_ERROR);
      expect(data.equals(DATA.subarray(0, 512 * KiB))).toBeTrue();
      expect(client.peer.finished).toBeFalse();
    },
  );

  test("without chunks that fails in the middle ends the connection", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    client.ask(...write(0, DATA.subarray(0, MiB)));
    failing(stream.stream.spool, "read", ERRNO.EIO, 3);
    expect(() => client.ask(read(0, MiB))).toThrow("the connection has ended");
    expect(stream.broken).toBe("SPOOL_FAILED");
  });

  test("that nobody takes holds up nobody else, and is of the time when it was sent", () => {
    using stream = new HoldFixture();
    const deaf = new DiskClient(stream, "structured");
    const other = new DiskClient(stream);
    deaf.ask(...write(0, DATA.subarray(0, 4 * MiB)));
    deaf.peer.deaf = true;
    deaf.send(read(0, 4 * MiB));
    stream.settle();
    // In the middle of a chunk that is in the socket already.
    expect(other.ask(...write(0, Buffer.alloc(4 * MiB, "n"))).error).toBe(NBD_OK);
    deaf.peer.deaf = false;
    const { data } = deaf.take();
    expect(data.subarray(0, 64 * KiB).equals(DATA.subarray(0, 64 * KiB))).toBeTrue();
    expect(deaf.ask(read(0, 10)).data.toString()).toBe("nnnnnnnnnn");
  });
});

describe("WRITE_ZEROES", () => {
  test("gives the room on the disk back, and NO_HOLE keeps it", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    const { counters } = stream;
    client.ask(...write(0, DATA.subarray(0, 8 * MiB)));
    stream.stream.spool.measure();
    const full = counters.spooled;
    expect(full).toBeGreaterThanOrEqual(8 * MiB);
    expect(client.ask(zero(0, 8 * MiB, NBD_CMD_FLAG_NO_HOLE)).error).toBe(NBD_OK);
    expect(counters.spooled).toBeGreaterThanOrEqual(8 * MiB);
    expect(client.ask(zero(8 * MiB, 8 * MiB, NBD_CMD_FLAG_NO_HOLE)).error).toBe(NBD_OK);
    expect(counters.spooled).toBeGreaterThanOrEqual(16 * MiB);
    expect(client.ask(zero(0, 8 * MiB)).error).toBe(NBD_OK);
    expect(counters.spooled).toBeLessThan(12 * MiB);
    expect(client.ask(read(0, 16 * MiB)).data.equals(Buffer.alloc(16 * MiB))).toBeTrue();
    expect(finish(stream).equals(Buffer.alloc(16 * MiB))).toBeTrue();
  });

  test("lengthens the stream, and a TRIM does not", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    client.ask(...write(0, DATA.subarray(0, 100)));
    client.ask(trim(0, 50_000));
    expect(stream.status().end).toBe(100);
    client.ask(zero(1000, 1000));
    expect(stream.status().end).toBe(2000);
    expect(finish(stream).equals(Buffer.alloc(2000))).toBeTrue();
  });

  const quick = NBD_CMD_FLAG_FAST_ZERO;

  test.each([
    [{ punches: true, zeroesInPlace: true }, quick, NBD_OK],
    [{ punches: true, zeroesInPlace: true }, quick | NBD_CMD_FLAG_NO_HOLE, NBD_OK],
    [{ punches: true, zeroesInPlace: false }, quick, NBD_OK],
    [{ punches: true, zeroesInPlace: false }, quick | NBD_CMD_FLAG_NO_HOLE, NBD_ENOTSUP],
    [{ punches: false, zeroesInPlace: true }, quick, NBD_EINVAL],
    [{ punches: false, zeroesInPlace: false }, quick, NBD_EINVAL],
  ])(
    "on a file system with %o, and the flags %d, is answered with %d",
    (abilities, flags, error) => {
      using stream = new HoldFixture({ abilities });
      const client = new DiskClient(stream);
      client.ask(...write(0, DATA.subarray(0, 1000)));
      expect(client.ask(zero(0, 500, flags)).error).toBe(error);
      // "SHOULD NOT alter the contents of the export when returning this failure".
      const want = Buffer.from(DATA.subarray(0, 1000));
      if (error === NBD_OK) want.fill(0, 0, 500);
      expect(client.ask(read(0, 1000)).data.equals(want)).toBeTrue();
      // A client that is told "not quickly" writes the zeroes itself: nothing is lacking.
      expect(stream.event("refused") !== undefined).toBe(error === NBD_EINVAL);
      expect(client.ask(zero(0, 500, flags & NBD_CMD_FLAG_NO_HOLE)).error).toBe(NBD_OK);
      expect(client.ask(read(0, 500)).data.equals(Buffer.alloc(500))).toBeTrue();
    },
  );

  test("past the end has no room, and the stream lacks it", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    expect(client.ask(zero(64 * MiB - 1, 2)).error).toBe(NBD_ENOSPC);
    expect(stream.event("refused")).toMatchObject({ error: NBD_ENOSPC });
  });

  test("of the largest length there is has no room either", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "extended");
    client.peer.send(encodeExtended(NBD_CMD_WRITE_ZEROES, 2n ** 64n - 1n, 2n ** 64n - 1n));
    stream.until(() => stream.event("refused") !== undefined);
    expect(stream.event("refused")).toMatchObject({ error: NBD_ENOSPC });
  });

  test("over much of a disk lets other clients have their turn", () => {
    using stream = new HoldFixture({ size: 2 ** 42 });
    const client = new DiskClient(stream, "extended");
    const other = new DiskClient(stream);
    for (let at = 0; at < 300; at++) client.ask(...write(at * 2 ** 30, DATA.subarray(0, 10)));
    client.send(zero(0, 2 ** 40));
    stream.turns(1);
    other.send(read(0, 10));
    stream.until(() => other.peer.available > 0);
    expect(client.peer.available).toBe(0);
    expect(client.take().error).toBe(NBD_OK);
    expect(client.ask(read(299 * 2 ** 30, 10)).data.equals(Buffer.alloc(10))).toBeTrue();
  });
});

describe("TRIM", () => {
  test("makes zeroes and a hole, and past the end it is not valid", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.ask(...write(0, DATA.subarray(0, MiB)));
    expect(client.ask(trim(0, 512 * KiB)).error).toBe(NBD_OK);
    expect(client.ask(read(0, 512 * KiB)).data.equals(Buffer.alloc(512 * KiB))).toBeTrue();
    expect(client.ask(status(0, 512 * KiB)).extents).toEqual([[512 * KiB, STATES.hole]]);
    expect(client.ask(trim(64 * MiB - 1, 2)).error).toBe(NBD_EINVAL);
    expect(client.ask(trim(0, 512, NBD_CMD_FLAG_NO_HOLE)).error).toBe(NBD_EINVAL);
    // A client can do without it.
    expect(stream.event("refused")).toBeUndefined();
  });

  test("is no command where it is not offered, and changes nothing", () => {
    using stream = new HoldFixture({ abilities: { punches: false } });
    const client = new DiskClient(stream);
    client.ask(...write(0, DATA.subarray(0, 4096)));
    expect(client.ask(trim(0, 4096)).error).toBe(NBD_EINVAL);
    expect(client.ask(read(0, 4096)).data.equals(DATA.subarray(0, 4096))).toBeTrue();
    expect(stream.event("refused")).toBeUndefined();
  });
});

describe("BLOCK_STATUS", () => {
  test.each(["structured", "extended"] as const)("tells data and holes, %s", (form) => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, form);
    expect(client.ask(status(0, 64 * MiB)).extents).toEqual([[64 * MiB, STATES.hole]]);
    client.ask(...write(2 * MiB, DATA.subarray(0, MiB)));
    expect(client.ask(status(0, 64 * MiB)).extents).toEqual([[2 * MiB, STATES.hole]]);
    expect(client.ask(status(2 * MiB, 62 * MiB)).extents).toEqual([[MiB, STATES.data]]);
    expect(client.ask(status(2 * MiB, 512)).extents).toEqual([[512, STATES.data]]);
    expect(client.ask(status(3 * MiB, 61 * MiB)).extents).toEqual([[61 * MiB, STATES.hole]]);
  });

  test("tells whole sectors, though the data ends in the middle of one", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.ask(...write(0, DATA.subarray(0, 700)));
    expect(client.ask(status(0, MiB)).extents).toEqual([[1024, STATES.data]]);
    expect(client.ask(status(1024, MiB)).extents).toEqual([[MiB, STATES.hole]]);
  });

  test("is one extent, with REQ_ONE or without, and other flags are not valid", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    expect(client.ask(status(0, 512, NBD_CMD_FLAG_REQ_ONE)).extents).toHaveLength(1);
    expect(client.ask(status(0, 512, NBD_CMD_FLAG_DF)).error).toBe(NBD_EINVAL);
    expect(client.ask(status(0, 0)).error).toBe(NBD_EINVAL);
    expect(client.ask(status(64 * MiB - 1, 2)).error).toBe(NBD_EINVAL);
    const plain = new DiskClient(stream);
    expect(plain.ask(status(0, 512)).error).toBe(NBD_EINVAL);
  });

  test("of a spool that cannot be asked is an error", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    failing(stream.stream.spool, "dataAt", ERRNO.EIO);
    expect(client.ask(status(0, 512)).error).toBe(NBD_EIO);
    expect(stream.broken).toBe("SPOOL_FAILED");
  });
});

describe("a command that there is not", () => {
  test.each([5, 8, 0xffff])("%d is not valid, and changes nothing", (type) => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "extended");
    expect(client.ask(request(type)(0, 512)).error).toBe(NBD_EINVAL);
    expect(stream.status()).toMatchObject({ active: 0, end: 0 });
  });
});

describe("a spool that is full", () => {
  const larger = DATA.subarray(0, MiB);

  test.each([
    [ERRNO.EFBIG, NBD_ENOSPC],
    [ERRNO.EDQUOT, NBD_ENOSPC],
    [ERRNO.ENOSPC, NBD_ENOSPC],
    [ERRNO.EIO, NBD_EIO],
  ])("or has another error, %d, is error %d for all that comes then", (errno, error) => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    failing(stream.stream.spool, "write", errno);
    client.send(...write(0, DATA.subarray(0, 100)));
    client.send(...write(0, larger));
    client.send(zero(0, 100));
    client.send(trim(0, 100));
    client.send(read(0, 100));
    client.send(flush());
    for (let i = 0; i < 6; i++) expect(client.take().error).toBe(error);
    expect(stream.event("broken")?.failure).toMatchObject({ code: "SPOOL_FAILED", errno: error });
    // The failure is the reason, and not what came of it.
    expect(stream.event("refused")).toBeUndefined();
  });
});

const TMPFS = 0x01021994;
const isTmpfs = existsSync("/dev/shm") && statfsSync("/dev/shm").type === TMPFS;

describe("offsets that are no exact numbers", () => {
  test.skipIf(!isTmpfs)(
    "are exact, on a file system for such files (skipped without a tmpfs)",
    () => {
      using stream = new HoldFixture({ size: UNBOUNDED_SIZE, folder: "/dev/shm" });
      const client = new DiskClient(stream, "extended");
      const ask = (bytes: Buffer) => {
        client.peer.send(bytes);
        stream.until(() => client.peer.available >= 32);
        stream.settle();
        return client.peer.take(client.peer.available);
      };
      const at = 2n ** 60n + 4097n;
      const extended = (type: number, offset: bigint, length: number | bigint) =>
        ask(encodeExtended(type, offset, length));
      ask(Buffer.concat([encodeExtended(NBD_CMD_WRITE, at, 3), Buffer.from("abc")]));
      ask(Buffer.concat([encodeExtended(NBD_CMD_WRITE, at, 70_000), DATA.subarray(0, 70_000)]));
      ask(Buffer.concat([encodeExtended(NBD_CMD_WRITE, at + 1n, 1), Buffer.from("b")]));
      expect(stream.status().end).toBe(at + 70_000n);
      const there = extended(NBD_CMD_READ, at - 2n, 5).subarray(-5);
      expect([...there]).toEqual([0, 0, DATA[0] as number, 98, DATA[2] as number]);
      const extents = extended(NBD_CMD_BLOCK_STATUS, 0n, 2n ** 61n);
      const hole = extents.readBigUInt64BE(32 + 8);
      expect(hole).toBeGreaterThan(2n ** 59n);
      expect(hole).toBeLessThanOrEqual(at);
      extended(NBD_CMD_TRIM, at - 1n, 2);
      expect([...extended(NBD_CMD_READ, at, 2).subarray(-2)]).toEqual([0, 98]);
      extended(NBD_CMD_WRITE_ZEROES, 1n, 2n ** 62n);
      expect(stream.status().end).toBe(2n ** 62n + 1n);
      const gone = extended(NBD_CMD_READ, at, 2);
      expect(gone.readUInt16BE(6)).toBe(NBD_REPLY_TYPE_OFFSET_HOLE);
      expect(gone.readUInt32BE(gone.length - 4)).toBe(2);
      expect(stream.broken).toBeUndefined();
    },
  );

  test("are past the end of a disk that is smaller", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    for (const at of [2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      client.peer.send(encodeRequest(NBD_CMD_WRITE, at, 1), Buffer.from("x"));
      stream.until(() => client.peer.available >= 16);
      expect(client.peer.takeReplies()).toEqual([{ error: NBD_ENOSPC, cookie: 1n }]);
    }
  });
});

describe("clients", () => {
  test("see what others have written as soon as those have their reply", () => {
    using stream = new HoldFixture();
    const clients = FORMS.map((form) => new DiskClient(stream, form));
    for (let round = 0; round < 30; round++) {
      const [one, other] = [clients[round % 3], clients[(round + 1) % 3]] as [
        DiskClient,
        DiskClient,
      ];
      const data = DATA.subarray(round * 1000, round * 1000 + 50_000);
      expect(one.ask(...write(round * 777, data)).error).toBe(NBD_OK);
      expect(one.ask(flush()).error).toBe(NBD_OK);
      expect(other.ask(read(round * 777, 50_000)).data.equals(data)).toBeTrue();
    }
  });

  test("do not wait for one that is in the middle of a WRITE", () => {
    using stream = new HoldFixture();
    const slow = new DiskClient(stream);
    const other = new DiskClient(stream);
    const [header, payload] = write(0, DATA.subarray(0, 100_000));
    slow.peer.send(slow.encode(header, payload, 1n).subarray(0, 50_000));
    stream.settle();
    expect(other.ask(...write(200_000, DATA.subarray(0, 100_000))).error).toBe(NBD_OK);
    expect(other.ask(read(200_000, 100_000)).data.equals(DATA.subarray(0, 100_000))).toBeTrue();
    expect(stream.broken).toBeUndefined();
  });

  test("that half-close still get all of their replies", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.send(...write(0, DATA.subarray(0, MiB)));
    client.send(read(0, MiB));
    client.send(flush());
    stream.until(() => client.peer.allSent);
    client.peer.halfClose();
    expect(client.take().error).toBe(NBD_OK);
    expect(client.take().data.equals(DATA.subarray(0, MiB))).toBeTrue();
    expect(client.take().error).toBe(NBD_OK);
    stream.until(() => client.peer.finished);
    expect(stream.events.at(-1)).toMatchObject({ end: "dropped", streamed: true });
    expect(stream.broken).toBeUndefined();
  });

  test.each([
    ["in a header", 20, undefined],
    ["in a small payload", 28 + 60, "CLIENT_CUT"],
    ["in a large payload", 28 + 70_000, "CLIENT_CUT"],
  ])("that die %s end with a stream that is %s", (_, sent, broken) => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    client.ask(...write(0, DATA.subarray(0, 10)));
    const length = sent < 200 ? 100 : 100_000;
    const [header, payload] = write(0, DATA.subarray(0, length));
    client.peer.send(client.encode(header, payload, 1n).subarray(0, sent));
    stream.until(() => client.peer.allSent);
    stream.settle();
    stream.hangUp(client.peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["cut"]);
    expect(stream.broken).toBe(broken);
  });

  test("that die in the middle of what they read leave the disk as it is", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.ask(...write(0, DATA.subarray(0, 16 * MiB)));
    client.peer.deaf = true;
    client.send(read(0, 16 * MiB));
    // What was sent before a client has left is done.
    client.send(...write(0, Buffer.from("last")));
    stream.settle();
    stream.hangUp(client.peer);
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["dropped"]);
    expect(stream.broken).toBeUndefined();
    const output = finish(stream);
    expect(output.subarray(0, 4).toString()).toBe("last");
    expect(output.subarray(4).equals(DATA.subarray(4, 16 * MiB))).toBeTrue();
  });

  test("that say what is no request are cut off, and the stream goes on", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream);
    client.ask(...write(0, Buffer.from("abc")));
    client.peer.send(Buffer.from("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"));
    stream.until(() => client.peer.finished);
    expect(stream.ends).toEqual(["garbage"]);
    const other = new DiskClient(stream);
    expect(other.ask(...write(3, Buffer.from("d"))).error).toBe(NBD_OK);
    other.peer.send(DISC);
    expect(finish(stream).toString()).toBe("abcd");
  });

  test("that stop in the middle of a WRITE are given up, and the stream with them", () => {
    using stream = new HoldFixture({ idleTimeout: 50 });
    const client = new DiskClient(stream);
    const [header, payload] = write(0, DATA.subarray(0, 100));
    client.peer.send(client.encode(header, payload, 1n).subarray(0, 60));
    stream.until(() => stream.ends.length === 1);
    expect(stream.ends).toEqual(["stalled"]);
    expect(stream.broken).toBe("CLIENT_CUT");
  });

  test("that are still there when the stream goes out change nothing of it, and are told", () => {
    using stream = new HoldFixture();
    const client = new DiskClient(stream, "structured");
    client.ask(...write(0, DATA.subarray(0, 16 * MiB)));
    stream.stalled = true;
    stream.command({ type: "finish", short: "allow" });
    stream.settle();
    expect(stream.counters.emitted).toBeGreaterThan(0);
    const [small, large] = [DATA.subarray(0, 10), DATA.subarray(0, MiB)];
    for (const late of [write(8 * MiB, small), write(8 * MiB, large)]) {
      expect(client.ask(...late).error).toBe(NBD_ESHUTDOWN);
    }
    // They would move the position from which the stream goes out.
    for (const late of [zero(0, 10), trim(0, 10), read(0, 10), status(0, 512), flush()]) {
      expect(client.ask(late).error).toBe(NBD_ESHUTDOWN);
    }
    expect(stream.event("refused")).toMatchObject({ error: NBD_ESHUTDOWN });
    stream.stalled = false;
    stream.until(() => stream.sawEnd);
    expect(stream.output.equals(DATA.subarray(0, 16 * MiB))).toBeTrue();
  });
});
