/** What has broken other servers, by the names under which it became known. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_UNKNOWN,
} from "../../src/protocol/constants.ts";
import { infoRequest, metaContextRequest } from "../handshake/conversation.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption } from "../support/wire.ts";
import { DATA, Trial, writeAll } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const PART = DATA.subarray(0, MiB);

/** Writes all of the stream and says goodbye; it has to be complete. */
async function completes(trial: Trial): Promise<void> {
  using writer = await trial.client();
  expect(await writeAll(writer, PART)).toBe(0);
  writer.disconnect();
  await trial.completes(PART);
}

describe("CVE-2019-14850: before a client has chosen the export", () => {
  test("it keeps nobody from the stream, and is not counted for a client", async () => {
    await using trial = await Trial.serve("FIFO");
    using stack = new DisposableStack();
    for (let i = 0; i < 20; i++) stack.use(await RawClient.connect(trial.socket));
    for (let i = 0; i < 20; i++) stack.use(await RawClient.negotiating(trial.socket));
    await completes(trial);
    expect(trial.program.stderr.match(/client \d+ connected/g)).toHaveLength(1);
  });

  test("it is answered without any work at the endpoint, where nobody is yet", async () => {
    await using trial = await Trial.serve({ fifo: undefined });
    using client = await RawClient.negotiating(trial.socket);
    expect((await client.option(NBD_OPT_INFO, infoRequest(""))).type).toBe(NBD_REP_ACK);
    expect((await client.option(NBD_OPT_ABORT)).type).toBe(NBD_REP_ACK);
    await client.closed();
    expect(trial.program.stderr).not.toMatch(/connected|the reader/);
  });
});

test("CVE-2019-14851: options in an order that nobody expects are answered, and harm nobody", async () => {
  await using trial = await Trial.serve("FIFO");
  using client = await RawClient.negotiating(trial.socket);
  const contexts = metaContextRequest("", ["base:allocation"]);
  const { INVALID, ACK } = { INVALID: NBD_REP_ERR_INVALID, ACK: NBD_REP_ACK };
  const order: [option: number, data: Buffer | undefined, type: number][] = [
    [NBD_OPT_SET_META_CONTEXT, contexts, INVALID],
    [NBD_OPT_LIST, undefined, ACK],
    [NBD_OPT_INFO, infoRequest("", [3]), ACK],
    [NBD_OPT_STRUCTURED_REPLY, undefined, ACK],
    [NBD_OPT_LIST, undefined, ACK],
    [NBD_OPT_SET_META_CONTEXT, contexts, ACK],
    [NBD_OPT_STRUCTURED_REPLY, undefined, ACK],
    [NBD_OPT_SET_META_CONTEXT, Buffer.concat([contexts, Buffer.alloc(3)]), INVALID],
    [NBD_OPT_LIST_META_CONTEXT, contexts, ACK],
    [NBD_OPT_INFO, infoRequest(""), ACK],
    [NBD_OPT_GO, infoRequest(""), ACK],
  ];
  for (const [option, data, type] of order) {
    expect((await client.option(option, data)).type).toBe(type);
  }
  // An option after GO is no request: that ends the connection, and nothing else.
  client.send(encodeOption(NBD_OPT_GO, Buffer.alloc(12)));
  await client.closed();
  await completes(trial);
});

describe("CVE-2022-26495 and CVE-2022-26496: a name", () => {
  const lies: [what: string, length: number][] = [
    ["of 2^32 - 1 bytes", 0xffff_ffff],
    ["of 2^31 bytes", 0x8000_0000],
    ["longer than its option by a byte", 7],
  ];
  const options = [NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT];
  test.each(lies)("%s is refused, and the option's data is taken", async (_, length) => {
    await using trial = await Trial.serve("FIFO");
    using client = await RawClient.negotiating(trial.socket);
    await client.option(NBD_OPT_STRUCTURED_REPLY);
    for (const option of options) {
      const data = Buffer.alloc(10, "disk");
      data.writeUInt32BE(length, 0);
      expect((await client.option(option, data)).type).toBe(NBD_REP_ERR_INVALID);
    }
    expect((await client.option(NBD_OPT_GO, infoRequest(""))).type).toBe(NBD_REP_ACK);
    client.disconnect();
    await completes(trial);
  });

  test.each([4097, 16_000])("of %d bytes is refused by all options", async (length) => {
    await using trial = await Trial.serve("FIFO");
    const name = "x".repeat(length);
    using client = await RawClient.negotiating(trial.socket);
    await client.option(NBD_OPT_STRUCTURED_REPLY);
    for (const option of options) {
      const context = option === NBD_OPT_LIST_META_CONTEXT || option === NBD_OPT_SET_META_CONTEXT;
      const data = context ? metaContextRequest(name) : infoRequest(name);
      expect((await client.option(option, data)).type).toBe(NBD_REP_ERR_INVALID);
    }
    // The one option that has no error reply.
    client.send(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    await client.closed();
    await completes(trial);
  });
});

test("CVE-2020-10761: an error text has at most 4096 bytes, whatever it repeats", async () => {
  const name = "é".repeat(2048);
  await using trial = await Trial.serve("FIFO", { args: ["-e", name] });
  using client = await RawClient.negotiating(trial.socket);
  const { type, data } = await client.option(NBD_OPT_GO, infoRequest("n".repeat(4096)));
  expect(type).toBe(NBD_REP_ERR_UNKNOWN);
  expect(data.length).toBeLessThanOrEqual(4096);
  expect(data.toString()).not.toContain("\ufffd");
  expect((await client.option(NBD_OPT_GO, infoRequest(name))).type).toBe(NBD_REP_ACK);
  client.disconnect();
  await completes(trial);
});

describe("CVE-2024-7409: clients that come and go during negotiation", () => {
  /** Comes, says so much, and goes, until `signal` is aborted. @returns how often */
  async function comeAndGo(trial: Trial, words: Buffer, signal: AbortSignal): Promise<number> {
    for (let times = 0; ; times++) {
      if (signal.aborted) return times;
      try {
        using client = await RawClient.connect(trial.socket);
        await client.receive(18);
        client.send(words);
      } catch {
        // The server has ended.
        if (!signal.aborted) await Bun.sleep(1);
      }
    }
  }

  const words = [
    Buffer.alloc(0),
    Buffer.alloc(3),
    u32(3),
    Buffer.concat([u32(3), Buffer.alloc(9)]),
  ];
  /** Some at a time, in all states that negotiation has. */
  const crowd = (trial: Trial, signal: AbortSignal) =>
    Promise.all([...words, ...words].map((said) => comeAndGo(trial, said, signal)));

  test("do no harm to a server that a signal ends", async () => {
    await using trial = await Trial.serve("FIFO");
    const stop = new AbortController();
    const visits = crowd(trial, stop.signal);
    await Bun.sleep(200);
    trial.program.process.kill("SIGTERM");
    await trial.fails({ status: 143, message: /ended by SIGTERM/, bytes: 0 });
    stop.abort();
    expect(Math.min(...(await visits))).toBeGreaterThan(0);
  });

  test("do no harm to a server whose stream is complete", async () => {
    await using trial = await Trial.serve("FIFO");
    using parked = await RawClient.negotiating(trial.socket);
    const stop = new AbortController();
    const visits = crowd(trial, stop.signal);
    await completes(trial);
    await parked.closed();
    // The one that stays in negotiation is closed by the end, and does not hold that up until its timeout.
    expect(trial.program.stderr).not.toContain("negotiation has taken more than");
    stop.abort();
    await visits;
  });
});

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
