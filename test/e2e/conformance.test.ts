/** What doc/proto.md asks of the transmission phase, over a socket of the real program. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS as BLOCK_STATUS,
  NBD_CMD_FLAG_DF as DF,
  NBD_CMD_FLAG_FUA as FUA,
  NBD_CMD_FLAG_NO_HOLE as NO_HOLE,
  NBD_CMD_FLUSH as FLUSH,
  NBD_CMD_READ as READ,
  NBD_CMD_TRIM as TRIM,
  NBD_CMD_WRITE as WRITE,
  NBD_CMD_WRITE_ZEROES as WRITE_ZEROES,
} from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { type RawClient } from "../support/nbd-client.ts";
import { encodeRequest, encodeWrite } from "../support/wire.ts";
import { ReadClient } from "../support/read-client.ts";
import { ReadTrial } from "../support/read-trial.ts";
import { ask, takeReply } from "../support/requests.ts";
import { DATA, ERROR, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const CACHE = 5;
const RESIZE = 8;
const FAST_ZERO = 16;
const PAYLOAD_LEN = 32;
/** Values that are opaque: zero, all ones, and what would be a magic number. */
const COOKIES = [0n, 1n, 2n ** 64n - 1n, 2n ** 63n, 0x25609513_67446698n];

/** The stream goes on as if nothing had been asked. */
async function goesOn(trial: Trial, client: RawClient): Promise<void> {
  expect(await client.write(0, DATA)).toBe(0);
  client.disconnect();
  await client.closed();
  await trial.completes(DATA);
}

/** The same, but for a refusal that the verdict has to tell of. */
async function goesOnRefused(trial: Trial, client: RawClient, message: RegExp): Promise<void> {
  expect(await client.write(0, DATA)).toBe(0);
  client.disconnect();
  await client.closed();
  expect(await trial.fails({ status: 4, message, bytes: DATA.length })).toEqual(DATA);
}

/** Both directions, and both forms of replies. */
const SETTINGS = [
  { direction: "written", form: "simple" },
  { direction: "written", form: "structured" },
  { direction: "read", form: "simple" },
  { direction: "read", form: "structured" },
] as const;

function serve(direction: "written" | "read", args: readonly string[] = []) {
  const size = `size=${DATA.length}`;
  return direction === "written"
    ? Trial.serve("FIFO", { args: ["--no-pad", ...args] })
    : ReadTrial.serve({ fifo: "cat data" }, { args: [size, "--no-pad", ...args] });
}

describe.each(SETTINGS)("a disk that is $direction, with $form replies", ({ direction, form }) => {
  async function client(trial: { socket: string }): Promise<RawClient> {
    return (await ReadClient.transmission(trial.socket, form === "structured")).raw;
  }

  test("cookies come back as they were, whatever the answer", async () => {
    await using trial = await serve(direction);
    using one = await client(trial);
    for (const cookie of COOKIES) {
      for (const [type, length] of [
        [READ, 100],
        [READ, 2 ** 32 - 1],
        [READ, 0],
        [FLUSH, 0],
        [WRITE_ZEROES, 0],
        [BLOCK_STATUS, 0],
        [BLOCK_STATUS, 512],
        [99, 0],
      ] as const) {
        one.send(encodeRequest(type, 0, length, { cookie }));
        const said = await takeReply(one, type === READ ? length : 0);
        expect(said.cookie).toBe(cookie);
        // Once they are negotiated every READ has a structured reply, errors included; what is
        // neither READ nor BLOCK_STATUS has a simple one in any case.
        if (type === READ) expect(said.form).toBe(form);
        else if (type !== BLOCK_STATUS) expect(said.form).toBe("simple");
      }
    }
  });

  test("commands that were not advertised and unknown ones are EINVAL, and their lengths are no payloads", async () => {
    await using trial = await serve(direction);
    using one = await client(trial);
    // NBD_CMD_TRIM changes data, which comes first where nothing may.
    const trim = direction === "read" ? ERROR.EPERM : ERROR.EINVAL;
    expect(await ask(one, TRIM, 0, 4096)).toBe(trim);
    for (const type of [CACHE, RESIZE, 9, 99, 0xffff]) {
      for (const length of [0, 28, 4096, 2 ** 32 - 1]) {
        expect(await ask(one, type, 0, length)).toBe(ERROR.EINVAL);
      }
    }
    expect(await ask(one, READ, 0, 512)).toBe(0);
  });

  test("unknown flags are EINVAL, alone and among known ones", async () => {
    await using trial = await serve(direction);
    using one = await client(trial);
    for (const flags of [FAST_ZERO, PAYLOAD_LEN, 64, 0x8000, FUA | 0x4000, 0xffff]) {
      expect(await ask(one, READ, 0, 512, flags)).toBe(ERROR.EINVAL);
      expect(await ask(one, FLUSH, 0, 0, flags)).toBe(ERROR.EINVAL);
      expect(await ask(one, BLOCK_STATUS, 0, 512, flags)).toBe(ERROR.EINVAL);
    }
    expect(await ask(one, READ, 0, 512, NO_HOLE)).toBe(ERROR.EINVAL);
    expect(await ask(one, READ, 0, 512, DF)).toBe(form === "structured" ? 0 : ERROR.EINVAL);
  });

  test("READs past the end, and those larger than the largest payload, are EINVAL at every edge", async () => {
    await using trial = await serve(direction, direction === "written" ? ["size=8M"] : []);
    using one = await client(trial);
    for (const [offset, length] of [
      [DATA.length, 1],
      [DATA.length - 1, 2],
      [0, 32 * MiB + 1],
      [0, 2 ** 32 - 1],
      [2n ** 53n, 1],
      [2n ** 63n - 1n, 1],
      [2n ** 63n, 1],
      [2n ** 64n - 1n, 1],
      // Their end is a small number again in 64 bits.
      [2n ** 64n - 1n, 2],
      [2n ** 64n - 512n, 1024],
      [2n ** 64n - 1n, 2 ** 32 - 1],
    ] as const) {
      expect(await ask(one, READ, offset, length)).toBe(ERROR.EINVAL);
      expect(await ask(one, BLOCK_STATUS, offset, length)).toBe(
        offset === 0 && form === "structured" && length < 8 * MiB ? 0 : ERROR.EINVAL,
      );
    }
    expect(await ask(one, READ, 0, 512)).toBe(0);
  });
});

describe("a disk that is written", () => {
  test("takes FUA with every command that it has", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    expect(await ask(client, READ, 0, 512, FUA)).toBe(0);
    expect(await ask(client, FLUSH, 0, 0, FUA)).toBe(0);
    client.send(encodeRequest(WRITE, 0, 1000, { flags: FUA }), DATA.subarray(0, 1000));
    expect((await takeReply(client)).error).toBe(0);
    expect(await ask(client, WRITE_ZEROES, 1000, 24, FUA | NO_HOLE)).toBe(0);
    client.disconnect();
    await trial.completes(Buffer.concat([DATA.subarray(0, 1000), Buffer.alloc(24)]));
  });

  test("refuses WRITE and WRITE_ZEROES with unknown flags, and takes the payload all the same", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    for (const flags of [NO_HOLE, DF, 8, FAST_ZERO, PAYLOAD_LEN, 0xffff]) {
      // The payload would be a request if it were not taken.
      const payload = encodeRequest(FLUSH, 0, 0);
      client.send(encodeRequest(WRITE, 0, payload.length, { flags, cookie: 7n }), payload);
      expect(await takeReply(client)).toMatchObject({ error: ERROR.EINVAL, cookie: 7n });
      // NBD_CMD_FLAG_FAST_ZERO was not advertised either.
      if (flags === NO_HOLE) continue;
      expect(await ask(client, WRITE_ZEROES, 0, 512, flags)).toBe(ERROR.EINVAL);
    }
    await goesOnRefused(trial, client, /was refused: it has flags that were not negotiated/);
  });

  test("answers ENOSPC past its end, at every edge of 64 bits, and takes the payload", async () => {
    await using trial = await Trial.serve("FIFO", { args: [`size=${DATA.length}`] });
    using client = await trial.client();
    for (const offset of [
      BigInt(DATA.length),
      BigInt(DATA.length - 1),
      2n ** 53n,
      2n ** 63n - 1n,
      2n ** 63n,
      2n ** 64n - 28n,
      2n ** 64n - 1n,
    ]) {
      const payload = encodeRequest(FLUSH, 0, 0);
      client.send(encodeWrite(offset, payload, offset));
      expect(await takeReply(client)).toMatchObject({ error: ERROR.ENOSPC, cookie: offset });
      expect(await ask(client, WRITE_ZEROES, offset, 2 ** 32 - 1)).toBe(ERROR.ENOSPC);
    }
    await goesOnRefused(trial, client, /goes past the end/);
  });

  test("takes a payload of 32 MiB, and is not put out by more", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    const largest = Buffer.alloc(32 * MiB, "largest");
    const larger = Buffer.alloc(33 * MiB, "larger");
    expect(await client.write(0, largest)).toBe(0);
    expect(await client.write(largest.length, larger)).toBe(0);
    client.disconnect();
    await trial.completes(Buffer.concat([largest, larger]));
  });

  test("does not end the connection for requests of no length", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    for (const offset of [0n, 2n ** 53n + 1n]) {
      for (const type of [READ, WRITE, WRITE_ZEROES, FLUSH]) {
        expect(await ask(client, type, offset, 0)).toBe(0);
      }
      expect(await ask(client, BLOCK_STATUS, offset, 0)).toBe(ERROR.EINVAL);
    }
    await goesOn(trial, client);
  });

  test("ignores what FLUSH has in its reserved fields", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    expect(await ask(client, FLUSH, 2n ** 64n - 1n, 2 ** 32 - 1)).toBe(0);
    await goesOn(trial, client);
  });

  test("answers BLOCK_STATUS without a context with EINVAL", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await trial.client();
    expect(await ask(client, BLOCK_STATUS, 0, 512)).toBe(ERROR.EINVAL);
    await goesOn(trial, client);
  });

  test("answers each request once, and all that are before NBD_CMD_DISC, but not that", async () => {
    await using trial = await Trial.serve({ fifo: "sleep 0.3; cat" });
    using client = await trial.client();
    const piece = 64 * 1024;
    const count = DATA.length / piece;
    for (let i = 0; i < count; i++) {
      const part = DATA.subarray(i * piece, (i + 1) * piece);
      client.send(encodeWrite(i * piece, part, BigInt(i)));
    }
    client.send(encodeRequest(2, 2n ** 64n - 1n, 5, { cookie: 2n ** 64n - 1n }));
    const cookies = new Set<bigint>();
    for (let i = 0; i < count; i++) {
      const { error, cookie } = await takeReply(client);
      expect(error).toBe(0);
      cookies.add(cookie);
    }
    expect(cookies.size).toBe(count);
    await client.closed();
    expect(await client.receive(1).catch(() => "nothing")).toBe("nothing");
    await trial.completes(DATA);
  });
});

test("a disk that is read refuses what writes with EPERM, and takes the payload", async () => {
  await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M"] });
  using client = await trial.client();
  for (const [offset, flags] of [
    [0n, 0],
    [2n ** 64n - 1n, 0],
    [0n, FUA],
  ] as const) {
    const payload = encodeRequest(READ, 0, 512);
    client.send(encodeRequest(WRITE, offset, payload.length, { flags }), payload);
    expect((await takeReply(client)).error).toBe(ERROR.EPERM);
    expect(await ask(client, WRITE_ZEROES, offset, 4096, flags)).toBe(ERROR.EPERM);
  }
  expect(await client.read(0, DATA.length)).toEqual(DATA);
  client.disconnect();
  await trial.completes(DATA.length);
});
