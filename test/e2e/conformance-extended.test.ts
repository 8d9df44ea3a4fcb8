/**
 * What doc/proto.md asks of a server with NBD_OPT_EXTENDED_HEADERS, over a socket of the real
 * program; the text of the clause stands at each.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_BLOCK_STATUS as BLOCK_STATUS,
  NBD_CMD_DISC as DISC,
  NBD_CMD_FLAG_DF as DF,
  NBD_CMD_FLAG_PAYLOAD_LEN as PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE as REQ_ONE,
  NBD_CMD_FLUSH as FLUSH,
  NBD_CMD_READ as READ,
  NBD_CMD_TRIM as TRIM,
  NBD_CMD_WRITE as WRITE,
  NBD_CMD_WRITE_ZEROES as WRITE_ZEROES,
  NBD_OPT_EXPORT_NAME as EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS as EXTENDED_HEADERS,
  NBD_OPT_GO as GO,
  NBD_OPT_SET_META_CONTEXT as SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY as STRUCTURED_REPLY,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from "../../src/protocol/constants.ts";
import { infoRequest, metaContextRequest } from "../handshake/conversation.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import {
  encodeExtended,
  encodeExtendedWrite,
  encodeRequest,
  encodeWithPayload,
} from "../support/wire.ts";
import { ReadTrial } from "../support/read-trial.ts";
import type { Reply } from "../support/replies.ts";
import { askExtended, takeExtended } from "../support/requests.ts";
import { DATA, ERROR, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const KiB = 1024;
const MiB = 1024 * KiB;
const ENDLESS = 2n ** 63n - 2n ** 30n;
const ERR_INVALID = 2 ** 31 + 3;
const ERR_EXT_HEADER_REQD = 2 ** 31 + 10;
const ACK = 1;
const COOKIES = [0n, 1n, 2n ** 64n - 1n, 2n ** 63n, 0x21e41c71_6e8a278cn];
const OFFSETS = [0n, 512n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];

type Direction = "written" | "read";

function serve(direction: Direction, args: readonly string[] = []) {
  return direction === "written"
    ? Trial.serve("FIFO", { args: ["--no-pad", ...args] })
    : ReadTrial.serve({ fifo: "cat data" }, { args: [`size=${DATA.length}`, "--no-pad", ...args] });
}

/** A client in the transmission phase. */
async function transmission({ socket }: { socket: string }, context = true): Promise<RawClient> {
  const client = await RawClient.negotiating(socket);
  expect(await client.option(EXTENDED_HEADERS)).toMatchObject({ type: ACK });
  if (context) {
    await client.option(SET_META_CONTEXT, metaContextRequest("", ["base:allocation"]));
  }
  expect(await client.option(GO, infoRequest(""))).toMatchObject({ type: ACK });
  return client;
}

/** The types of the chunks. */
function types({ chunks }: Reply): number[] {
  return chunks.map(([type]) => type);
}

/** What an error chunk says, besides the error. */
function textOf({ chunks }: Reply): string {
  const [, payload] = chunks.at(-1) as (typeof chunks)[number];
  return payload.subarray(6).toString();
}

/** The stream goes on as if nothing had been asked. */
async function goesOn(trial: Trial, client: RawClient): Promise<void> {
  client.send(encodeExtendedWrite(0, DATA));
  expect((await takeExtended(client, 0)).error).toBe(0);
  client.send(encodeExtended(DISC, 0, 0));
  await client.closed();
  await trial.completes(DATA);
}

describe("negotiation", () => {
  test("refuses data, has no way back, and forbids NBD_OPT_EXPORT_NAME", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await RawClient.negotiating(trial.socket);
    // "the server SHOULD reject a request that includes data with NBD_REP_ERR_INVALID"
    const wrong = await client.option(EXTENDED_HEADERS, Buffer.from("x"));
    expect(wrong.type).toBe(ERR_INVALID);
    // "A client MAY request structured replies first"
    expect(await client.option(STRUCTURED_REPLY)).toMatchObject({ type: ACK });
    const granted = await client.option(EXTENDED_HEADERS);
    expect([granted.type, granted.data.length]).toEqual([ACK, 0]);
    // "NBD_REP_ERR_EXT_HEADER_REQD: The client has already successfully negotiated extended headers"
    expect((await client.option(STRUCTURED_REPLY)).type).toBe(ERR_EXT_HEADER_REQD);
    // "Once extended headers are successfully requested, a client MUST NOT use NBD_OPT_EXPORT_NAME"
    await expect(client.option(EXPORT_NAME)).rejects.toThrow("closed");
    using other = await transmission(trial);
    await goesOn(trial, other);
  });

  test("does not advertise a payload of NBD_CMD_BLOCK_STATUS", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await RawClient.negotiating(trial.socket);
    await client.option(EXTENDED_HEADERS);
    client.send(Buffer.concat([infoHeader(), infoRequest("")]));
    const { data } = await client.optionReply();
    const flags = data.readUInt16BE(10);
    expect([flags & 0x80, flags & 0x1000]).toEqual([0x80, 0]);
    expect((await client.optionReply()).type).toBe(ACK);
    await goesOn(trial, client);
  });
});

/** NBD_OPT_GO with the data of a request for nothing special. */
function infoHeader(): Buffer {
  const header = Buffer.alloc(16);
  header.write("IHAVEOPT");
  header.writeUInt32BE(GO, 8);
  header.writeUInt32BE(infoRequest("").length, 12);
  return header;
}

describe.each(["written", "read"] as const)("a disk that is %s", (direction) => {
  test("gives cookie and offset back as they were, in extended chunks, whatever the answer", async () => {
    await using trial = await serve(direction);
    using one = await transmission(trial);
    // "the server MUST NOT use simple replies even when there is no payload"; "offset MUST match the
    // offset of the client's request".
    for (const cookie of COOKIES) {
      for (const offset of OFFSETS) {
        for (const [type, length] of [
          [READ, 100],
          [READ, 2n ** 64n - 1n],
          [READ, 0],
          [FLUSH, 0],
          [WRITE, 0],
          [WRITE_ZEROES, 0],
          [BLOCK_STATUS, 512],
          [BLOCK_STATUS, 0],
          [TRIM, 2n ** 40n],
          [99, 2n ** 64n - 1n],
        ] as const) {
          one.send(encodeExtended(type, offset, length, { cookie }));
          expect((await takeExtended(one, offset)).cookie).toBe(cookie);
        }
      }
    }
  });

  test("takes every length that is no payload for one of the disk, of 64 bits", async () => {
    await using trial = await serve(direction, direction === "written" ? ["size=8M"] : []);
    using one = await transmission(trial);
    for (const [offset, length] of [
      [0, DATA.length + 1],
      // 512 in 32 bits.
      [0, 2n ** 32n + 512n],
      [0, 2n ** 63n],
      [0, 2n ** 64n - 1n],
      // Their end is a small number again in 64 bits.
      [512, 2n ** 64n - 512n],
      [2n ** 64n - 1n, 1],
      [2n ** 64n - 1n, 2n ** 64n - 1n],
    ] as const) {
      for (const type of [READ, BLOCK_STATUS]) {
        const said = await askExtended(one, type, offset, length);
        expect([types(said), said.error]).toEqual([[NBD_REPLY_TYPE_ERROR], ERROR.EINVAL]);
        expect(textOf(said)).toBe("the request is not valid");
      }
    }
    for (const type of [5, 8, 9, 0xffff]) {
      expect((await askExtended(one, type, 0, 2n ** 64n - 1n)).error).toBe(ERROR.EINVAL);
    }
    expect((await askExtended(one, READ, 0, 512)).error).toBe(0);
  });

  test("consumes a payload that a command does not take, and answers EINVAL", async () => {
    await using trial = await serve(direction);
    using one = await transmission(trial);
    const hostile = Buffer.concat([encodeExtendedWrite(0, DATA), encodeExtended(DISC, 0, 0)]);
    // "a server SHOULD gracefully consume length bytes of payload ... and proceed with the next client
    // command"; of BLOCK_STATUS it MUST.
    for (const type of [READ, FLUSH, BLOCK_STATUS, TRIM, 5, 99]) {
      for (const payload of [hostile.subarray(0, 1), Buffer.alloc(12), hostile]) {
        one.send(encodeWithPayload(type, 5, payload));
        const said = await takeExtended(one, 5);
        expect([types(said), said.error]).toEqual([[NBD_REPLY_TYPE_ERROR], ERROR.EINVAL]);
      }
    }
    // The flag is not for a payload of nothing either.
    expect((await askExtended(one, READ, 0, 0, PAYLOAD_LEN)).error).toBe(ERROR.EINVAL);
    expect((await askExtended(one, BLOCK_STATUS, 0, 0, PAYLOAD_LEN)).error).toBe(ERROR.EINVAL);
    expect((await askExtended(one, READ, 0, 512)).error).toBe(0);
  });

  test.each([
    // "A server SHOULD initiate hard disconnect if ... a length larger than a server's advertised ...
    // maximum payload length".
    ["too large a payload", encodeExtended(WRITE, 0, 32 * MiB + 1, { flags: PAYLOAD_LEN })],
    ["one of 64 bits", encodeExtended(READ, 0, 2n ** 64n - 1n, { flags: PAYLOAD_LEN })],
    // "the client MUST use the 32-byte extended request header".
    ["a compact header", Buffer.concat([encodeRequest(READ, 0, 512), Buffer.alloc(4)])],
  ])("ends the connection, and no other, after %s", async (_, wrong) => {
    await using trial = await serve(direction);
    using one = await transmission(trial);
    using other = await transmission(trial);
    one.send(wrong, Buffer.alloc(600));
    await one.closed();
    expect(await one.receive(1).catch(() => "nothing")).toBe("nothing");
    expect((await askExtended(other, READ, 0, 512)).error).toBe(0);
  });

  test("has no compact block status, and needs a context for one", async () => {
    await using trial = await serve(direction);
    using one = await transmission(trial);
    const said = await askExtended(one, BLOCK_STATUS, 0, 512, REQ_ONE);
    expect(types(said)).toEqual([NBD_REPLY_TYPE_BLOCK_STATUS_EXT]);
    // "8 + (a positive multiple of 16)": the context, one descriptor, its length and its state.
    const [[, payload] = [0, Buffer.alloc(0)]] = said.chunks;
    const state = direction === "written" ? 3n : 0n;
    expect(payload).toHaveLength(8 + 16);
    expect([payload.readUInt32BE(0), payload.readUInt32BE(4)]).toEqual([1, 1]);
    expect([payload.readBigUInt64BE(8), payload.readBigUInt64BE(16)]).toEqual([512n, state]);
    using without = await transmission(trial, false);
    expect((await askExtended(without, BLOCK_STATUS, 0, 512)).error).toBe(ERROR.EINVAL);
  });
});

test("a disk without end has a block status of one extent, and any part of it as asked for", async () => {
  await using trial = await Trial.serve("FIFO");
  using client = await transmission(trial);
  for (const [offset, length] of [
    [0n, ENDLESS],
    [2n ** 62n + 1n, ENDLESS - 2n ** 62n - 1n],
    [5n, 2n ** 32n],
  ] as const) {
    for (const flags of [0, REQ_ONE]) {
      const { chunks } = await askExtended(client, BLOCK_STATUS, offset, length, flags);
      const [[type, payload] = [0, Buffer.alloc(0)]] = chunks;
      expect(type).toBe(NBD_REPLY_TYPE_BLOCK_STATUS_EXT);
      expect([payload.readBigUInt64BE(8), payload.readBigUInt64BE(16)]).toEqual([length, 3n]);
    }
  }
  await goesOn(trial, client);
});

test("WRITEs of every size are one stream, and what is missing is one request, more than 4 GiB", async () => {
  const size = 4 * 1024 * MiB + 8 * MiB;
  await using trial = await Trial.serve({ fifo: "exec wc -c" }, { args: [`size=${size}`] });
  using client = await transmission(trial);
  let at = 0;
  for (const length of [1, 511, 4096, 32 * KiB, 32 * KiB, MiB, 100_000, 31, 2 * MiB]) {
    const payload = DATA.subarray(at, at + length);
    // "The command NBD_CMD_WRITE MUST use the flag", but qemu does not.
    client.send(
      at < MiB
        ? encodeExtendedWrite(at, payload)
        : Buffer.concat([encodeExtended(WRITE, at, length), payload]),
    );
    const said = await takeExtended(client, at);
    expect([types(said), said.error]).toEqual([[NBD_REPLY_TYPE_NONE], 0]);
    at += length;
  }
  expect((await askExtended(client, WRITE_ZEROES, at, size - at)).error).toBe(0);
  const hole = await askExtended(client, READ, at, 32 * MiB);
  expect(types(hole)).toEqual([NBD_REPLY_TYPE_OFFSET_HOLE]);
  expect((await askExtended(client, FLUSH, 0, 0)).error).toBe(0);
  client.send(encodeExtended(DISC, 0, 0));
  const { status, stderr } = await trial.program.ended();
  expect(status, stderr).toBe(0);
  expect(Number(await trial.sink.output())).toBe(size);
});

test("a disk that is read is read in chunks, fragmented or not", async () => {
  await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args: ["size=8M"] });
  using client = await transmission(trial);
  let at = 0;
  for (const [length, flags] of [
    [1, 0],
    [4096, 0],
    [MiB, DF],
    [3 * MiB, 0],
    [100_000, DF],
  ] as const) {
    const { error, chunks } = await askExtended(client, READ, at, length, flags);
    expect(error).toBe(0);
    if (flags === DF) expect(chunks).toHaveLength(1);
    const parts = chunks.map(([type, payload]) => {
      expect(type).toBe(NBD_REPLY_TYPE_OFFSET_DATA);
      return payload.subarray(8);
    });
    expect(Buffer.concat(parts).equals(DATA.subarray(at, at + length))).toBeTrue();
    at += length;
  }
  // What writes is EPERM, in a chunk, and its payload is consumed.
  client.send(encodeExtendedWrite(0, encodeExtended(DISC, 0, 0)));
  const refused = await takeExtended(client, 0);
  expect([refused.error, textOf(refused)]).toEqual([ERROR.EPERM, "the disk can only be read"]);
  expect((await askExtended(client, WRITE_ZEROES, 0, 2n ** 64n - 1n)).error).toBe(ERROR.EPERM);
  const rest = await askExtended(client, READ, at, DATA.length - at);
  expect(rest.error).toBe(0);
  client.send(encodeExtended(DISC, 0, 0));
  await trial.completes(DATA.length);
});
