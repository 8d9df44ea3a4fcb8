/** What doc/proto.md asks of option haggling, byte by byte over a socket of the real program. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_OPT_ABORT as ABORT,
  NBD_OPT_EXPORT_NAME as EXPORT_NAME,
  NBD_OPT_GO as GO,
  NBD_OPT_INFO as INFO,
  NBD_OPT_LIST as LIST,
  NBD_OPT_SET_META_CONTEXT as SET_META_CONTEXT,
  NBD_OPT_STARTTLS as STARTTLS,
  NBD_OPT_STRUCTURED_REPLY as STRUCTURED_REPLY,
} from "../../src/protocol/constants.ts";
import { infoRequest, metaContextRequest } from "../handshake/conversation.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest } from "../support/wire.ts";
import { ReadTrial } from "../support/read-trial.ts";
import { DATA, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const ERR = 2 ** 31;
const [UNSUP, POLICY, INVALID, UNKNOWN] = [ERR + 1, ERR + 2, ERR + 3, ERR + 6];
const [ACK, SERVER, REP_INFO, REP_META_CONTEXT] = [1, 2, 3, 4];
const HAS_FLAGS = 1;
const READ_ONLY = 2;
const [SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES, SEND_DF] = [4, 8, 64, 128];

/** Bytes that are sent alone; a pause now and then sees to it that they arrive so. */
async function drip(client: RawClient, bytes: Uint8Array): Promise<void> {
  for (let i = 0; i < bytes.length; i++) {
    client.send(bytes.subarray(i, i + 1));
    await new Promise((resolve) => setImmediate(resolve));
    if (i % 16 === 0) await Bun.sleep(1);
  }
}

/** A reply that has to be to `option`. */
async function optionReply(client: RawClient, option: number) {
  const header = await client.receive(20);
  expect(header.readBigUInt64BE(0)).toBe(0x0003e889045565a9n);
  expect(header.readUInt32BE(8)).toBe(option);
  const data = await client.receive(header.readUInt32BE(16));
  return { type: header.readUInt32BE(12), data };
}

/** All replies to an option: those with information, and the last one. */
async function ask(client: RawClient, option: number, data: Uint8Array = new Uint8Array(0)) {
  await drip(client, encodeOption(option, data));
  const informed: { type: number; data: Buffer }[] = [];
  for (;;) {
    const said = await optionReply(client, option);
    if (said.type === ACK || said.type >= ERR) return { informed, ...said };
    informed.push(said);
  }
}

/** Says hello, and takes the greeting. */
async function greeted(socket: string, flags: number): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  // Unprompted: 18 bytes, with fixed newstyle and no zeroes, and no other flag.
  const greeting = (await client.receive(18)).toString("hex");
  expect(greeting).toBe(`4e42444d41474943${"49484156454f5054"}0003`);
  await drip(client, Buffer.from([0, 0, 0, flags]));
  return client;
}

test("every option is answered, whatever the others came to, and transmission follows", async () => {
  await using trial = await Trial.serve("FIFO", { args: ["-e", "disk", "size=8M"] });
  using client = await greeted(trial.socket, 3);
  expect(await ask(client, 4)).toMatchObject({ type: UNSUP, informed: [] });
  // Its data, which would be an option, is consumed.
  expect(await ask(client, 99, encodeOption(ABORT))).toMatchObject({ type: UNSUP });
  expect(await ask(client, STARTTLS)).toMatchObject({ type: POLICY });
  const list = await ask(client, LIST);
  expect(list.informed).toEqual([
    { type: SERVER, data: Buffer.concat([Buffer.from([0, 0, 0, 4]), Buffer.from("disk")]) },
  ]);
  expect(list.data).toHaveLength(0);
  expect(await ask(client, LIST, Buffer.from("x"))).toMatchObject({ type: INVALID });
  expect(await ask(client, INFO, Buffer.from([0, 0]))).toMatchObject({ type: INVALID });
  expect(await ask(client, GO, infoRequest("disc"))).toMatchObject({ type: UNKNOWN, informed: [] });
  const select = metaContextRequest("disk", ["base:allocation"]);
  expect(await ask(client, SET_META_CONTEXT, select)).toMatchObject({ type: INVALID });
  expect(await ask(client, STRUCTURED_REPLY)).toMatchObject({ type: ACK, informed: [] });
  const selected = await ask(client, SET_META_CONTEXT, select);
  expect(selected.informed.map(({ type }) => type)).toEqual([REP_META_CONTEXT]);
  expect(selected.type).toBe(ACK);
  // "MUST be the same" information from GO as from INFO, unknown kinds being ignored.
  const info = await ask(client, INFO, infoRequest("disk", [3, 77]));
  const go = await ask(client, GO, infoRequest("disk", [3, 77]));
  expect(info.type).toBe(ACK);
  expect(go.informed).toEqual(info.informed);
  const numbers = go.informed.map(({ type, data }) => [type, data.readUInt16BE(0), data.length]);
  expect(numbers).toEqual([
    [REP_INFO, 0, 12],
    [REP_INFO, 3, 14],
  ]);
  const [, sizes = Buffer.alloc(14)] = go.informed.map(({ data }) => data);
  const [minimum, preferred, maximum] = [2, 6, 10].map((at) => sizes.readUInt32BE(at));
  expect([minimum, preferred, maximum]).toEqual([1, 4096, 32 * 1024 * 1024]);
  // No zeroes follow: the next bytes are a reply.
  await drip(client, encodeRequest(3, 0, 0, { cookie: 9n }));
  expect(await client.reply()).toEqual({ error: 0, cookie: 9n });
  expect(await client.write(0, DATA)).toBe(0);
  client.disconnect();
  await trial.completes(DATA);
});

describe("the transmission flags", () => {
  test.each([
    ["written", HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_WRITE_ZEROES],
    ["read", HAS_FLAGS | READ_ONLY],
  ])("of a disk that is %s are what it can do, and DF only with chunks", async (way, flags) => {
    const args = ["size=8M", "--no-pad"];
    await using trial =
      way === "read"
        ? await ReadTrial.serve({ fifo: "cat data" }, { args })
        : await Trial.serve("FIFO", { args });
    using client = await greeted(trial.socket, 1);
    const read = async () => {
      const { informed } = await ask(client, INFO, infoRequest(""));
      return informed[0]?.data.readUInt16BE(10);
    };
    expect(await read()).toBe(flags);
    await ask(client, STRUCTURED_REPLY);
    expect(await read()).toBe(flags | SEND_DF);
  });
});

describe("NBD_OPT_EXPORT_NAME", () => {
  test.each([
    ["with zeroes", 1, 124],
    ["without zeroes", 3, 0],
  ])("is answered with size and flags, %s as the client wants it", async (_, flags, zeroes) => {
    await using trial = await Trial.serve("FIFO", { args: ["size=8M"] });
    using client = await greeted(trial.socket, flags);
    await drip(client, encodeOption(EXPORT_NAME, Buffer.from("any name")));
    const answer = await client.receive(10 + zeroes);
    expect(answer.readBigUInt64BE(0)).toBe(BigInt(DATA.length));
    expect(answer.subarray(10)).toEqual(Buffer.alloc(zeroes));
    expect(await client.write(0, DATA)).toBe(0);
    client.disconnect();
    await trial.completes(DATA);
  });

  test("of another export ends the connection without a word, and no other", async () => {
    await using trial = await Trial.serve("FIFO", { args: ["-e", "disk"] });
    using client = await greeted(trial.socket, 3);
    await drip(client, encodeOption(EXPORT_NAME, Buffer.from("disc")));
    await client.closed();
    expect(await client.receive(1).catch(() => "nothing")).toBe("nothing");
    using other = await trial.client();
    expect(await other.write(0, DATA)).toBe(0);
    other.disconnect();
    await trial.completes(DATA);
  });
});

describe("the connection, and no other, ends", () => {
  test("after NBD_OPT_ABORT is acknowledged", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await greeted(trial.socket, 3);
    expect(await ask(client, ABORT, Buffer.from("bye"))).toMatchObject({ type: ACK });
    await client.closed();
    await isUnharmed(trial);
  });

  test("when the client does not wait for that", async () => {
    await using trial = await Trial.serve("FIFO");
    using client = await greeted(trial.socket, 3);
    client.send(encodeOption(ABORT));
    client.socket.resetAndDestroy();
    await isUnharmed(trial);
  });

  test.each([4, 0x80, 0xff])("after the unknown client flags %d", async (flags) => {
    await using trial = await Trial.serve("FIFO");
    using client = await greeted(trial.socket, flags);
    await client.closed();
    expect(await client.receive(1).catch(() => "nothing")).toBe("nothing");
    await isUnharmed(trial);
  });
});

async function isUnharmed(trial: Trial): Promise<void> {
  using client = await trial.client();
  expect(await client.write(0, DATA)).toBe(0);
  client.disconnect();
  await trial.completes(DATA);
}
