/** Clients that do not get through TLS, or die in it, and endpoints that are slow behind it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  NBD_CMD_WRITE,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ERR_TLS_REQD,
} from "../../src/protocol/constants.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient } from "../support/nbd-client.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { beginTls, failure, secureClient, secureTransmission } from "../support/tls-client.ts";
import { DATA, Trial, writeAll } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const FLAGS = Buffer.from([0, 0, 0, 3]);
const START = encodeOption(NBD_OPT_STARTTLS);

const folder = tempFolder();
let pki: Certificates;
let authority: string;
beforeAll(() => {
  pki = makeCertificates(folder.path);
  authority = pki.authority.certificate;
});
afterAll(() => folder[Symbol.dispose]());

const required = () => ["--tls=require", `--tls-certificates=${pki.all}`];

/** A ClientHello of a TLS version, which all others would understand, too. */
function clientHello(version: number): Buffer {
  const u16 = (value: number) => Buffer.from([value >> 8, value & 0xff]);
  const counted = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes]);
  const extension = (type: number, data: Buffer) => Buffer.concat([u16(type), counted(data)]);
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32, 7),
    Buffer.from([0]),
    // ECDHE_ECDSA with AES_128_GCM_SHA256 and, for the old ones, with AES_128_CBC_SHA.
    counted(Buffer.from("c02bc009c00a", "hex")),
    Buffer.from([1, 0]),
    counted(
      Buffer.concat([
        extension(10, counted(Buffer.from("0017", "hex"))),
        extension(11, Buffer.from("0100", "hex")),
        extension(13, counted(Buffer.from("04030203", "hex"))),
      ]),
    ),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), counted(body)]);
  return Buffer.concat([Buffer.from([22, 3, 1]), counted(message)]);
}

/** Far more than a client who goes on takes on a busy machine. */
const DEADLINE = "--negotiation-timeout=2";

/** Somebody comes after all that, and has the stream to himself. */
async function isUnharmed(trial: Trial): Promise<void> {
  await using client = await secureTransmission(trial.socket, authority);
  expect(await writeAll(client.inside, DATA)).toBe(0);
  client.inside.disconnect();
  await client.inside.closed();
  await trial.completes(DATA);
}

describe("after NBD_OPT_STARTTLS", () => {
  test("garbage instead of a ClientHello ends the connection, and no other", async () => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    for (const garbage of [
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.alloc(100_000, 0xff),
      // NBD in the clear, with and without options that would agree on something.
      encodeOption(NBD_OPT_LIST),
      Buffer.concat([encodeOption(NBD_OPT_STRUCTURED_REPLY), encodeOption(NBD_OPT_EXPORT_NAME)]),
      // A record that is too long.
      Buffer.concat([Buffer.from("160301ffff", "hex"), Buffer.alloc(65535)]),
    ]) {
      using client = await beginTls(trial.socket);
      client.send(garbage);
      await client.closed();
      // An alert at most: nothing that is NBD.
      const said = await client.receive(8).catch(() => Buffer.alloc(0));
      expect(said.toString("hex")).not.toMatch(/^(4e42444d|0003e889)/);
    }
    await isUnharmed(trial);
  });

  test.each([
    ["TLS 1.0", 0x301],
    ["TLS 1.1", 0x302],
  ])("%s is refused", async (_, version) => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    using client = await beginTls(trial.socket);
    client.send(clientHello(version));
    // An alert, fatal, protocol_version (RFC 5246, 7.2), and the end.
    const alert = await client.receive(7);
    expect([alert[0], alert[5], alert[6]]).toEqual([21, 2, 70]);
    await client.closed();
    await isUnharmed(trial);
  });

  test("TLS 1.2 is taken: the ClientHello of the tests is good for it", async () => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    using client = await beginTls(trial.socket);
    client.send(clientHello(0x303));
    // A handshake, with a ServerHello of that version.
    const hello = await client.receive(11);
    expect([hello[0], hello[5], hello.readUInt16BE(9)]).toEqual([22, 2, 0x303]);
  });

  test("silence, half a ClientHello, and a whole one and no more end at the deadline of negotiation", async () => {
    const args = [...required(), DEADLINE];
    await using trial = await Trial.serve("FIFO", { args });
    using stack = new DisposableStack();
    const clients: RawClient[] = [];
    for (const length of [0, 40, 1000]) {
      const client = stack.use(await beginTls(trial.socket));
      client.send(clientHello(0x303).subarray(0, length));
      clients.push(client);
    }
    await Promise.all(clients.map((client) => client.closed()));
    await trial.program.saying(/(?:refused: negotiation has taken more than 2 s\n[^]*){3}/);
    await isUnharmed(trial);
  });

  test("silence inside TLS ends at the deadline of negotiation", async () => {
    const args = [...required(), DEADLINE];
    await using trial = await Trial.serve("FIFO", { args });
    await using client = await secureClient(trial.socket, authority);
    client.inside.send(encodeOption(NBD_OPT_LIST).subarray(0, 9));
    await client.inside.closed();
    await trial.program.saying(/refused: negotiation has taken more than 2 s/);
    await isUnharmed(trial);
  });

  test("a client that takes its time after negotiation is not cut off", async () => {
    const args = [...required(), DEADLINE, "--idle-timeout=2"];
    await using trial = await Trial.serve("FIFO", { args });
    await using client = await secureTransmission(trial.socket, authority);
    await Bun.sleep(2300);
    // Nothing of it can come late.
    const part = DATA.subarray(0, 16 * 1024);
    expect(await client.inside.write(0, part)).toBe(0);
    client.inside.disconnect();
    await trial.completes(part);
  });

  test.each([
    ["nothing", ""],
    ["a reset", "reset"],
    ["half a ClientHello", clientHello(0x303).subarray(0, 40).toString("latin1")],
  ])("a client that leaves behind %s harms nobody", async (_, words) => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    using client = await beginTls(trial.socket);
    if (words === "reset") client.socket.resetAndDestroy();
    else client.socket.end(Buffer.from(words, "latin1"));
    await client.closed();
    await isUnharmed(trial);
  });
});

describe("CVE-2021-3716: what comes in the same packet as NBD_OPT_STARTTLS", () => {
  const injections: [string, Buffer][] = [
    ["an option", encodeOption(NBD_OPT_STRUCTURED_REPLY)],
    ["a ClientHello", clientHello(0x303)],
    ["a single byte", Buffer.from([22])],
  ];
  test.each(injections)("ends the connection: %s", async (_, injected) => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    using client = await RawClient.connect(trial.socket);
    await client.receive(18);
    client.send(FLAGS, START, injected);
    expect(await failure(client.receive(1))).toBe("closed after 0 bytes");
    await trial.program.saying(/refused: data in the clear came behind NBD_OPT_STARTTLS/);
    await isUnharmed(trial);
  });
});

test("structured replies that were granted in the clear are not inside TLS", async () => {
  const args = ["--tls=on", `--tls-certificates=${pki.all}`];
  await using trial = await Trial.serve("FIFO", { args });
  // That socket's greeting and flags have gone by when TLS begins: the option comes between them.
  await using client = await secureTransmission(trial.socket, authority, undefined, [
    encodeOption(NBD_OPT_STRUCTURED_REPLY),
  ]);
  // A simple reply: 16 bytes and the data.
  expect(await client.inside.read(0, 512)).toEqual(Buffer.alloc(512));
  expect(await writeAll(client.inside, DATA)).toBe(0);
  client.inside.disconnect();
  await trial.completes(DATA);
});

test("with TLS required, a client in the clear gets to know nothing but that", async () => {
  await using trial = await Trial.serve("FIFO", { args: [...required(), "-e", "secret"] });
  using client = await RawClient.connect(trial.socket);
  await client.receive(18);
  client.send(FLAGS);
  for (const option of [NBD_OPT_LIST, NBD_OPT_GO, 99]) {
    // What the option takes, and what it does not, is consumed.
    client.send(encodeOption(option, Buffer.alloc(5000, START)));
    const header = await client.receive(20);
    expect(header.readUInt32BE(8)).toBe(option);
    expect(header.readUInt32BE(12)).toBe(NBD_REP_ERR_TLS_REQD);
    expect((await client.receive(header.readUInt32BE(16))).toString()).not.toContain("secret");
  }
  client.send(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("secret")));
  expect(await failure(client.receive(1))).toBe("closed after 0 bytes");
  await isUnharmed(trial);
});

describe("a client that dies inside TLS", () => {
  test.each([
    ["by a reset", "reset"],
    ["without a word of TLS", "end"],
  ])("in the middle of a payload has truncated the stream: %s", async (_, how) => {
    await using trial = await Trial.serve("command", { args: required() });
    await using client = await secureTransmission(trial.socket, authority);
    expect(await client.inside.write(0, DATA.subarray(0, MiB))).toBe(0);
    const header = encodeRequest(NBD_CMD_WRITE, MiB, MiB);
    client.inside.send(header, DATA.subarray(MiB, MiB + MiB / 2));
    await eventually(() => client.inside.socket.writableLength === 0, "the payload to be sent");
    if (how === "reset") client.below.socket.resetAndDestroy();
    else client.below.socket.end();
    await trial.fails({ status: 4, message: /truncated/ });
  });

  test("between two requests has truncated the stream of serve", async () => {
    await using trial = await Trial.serve("command", { args: required() });
    await using client = await secureTransmission(trial.socket, authority);
    expect(await client.inside.write(0, DATA.subarray(0, MiB))).toBe(0);
    client.below.socket.destroy();
    await trial.fails({ status: 4, message: /truncated/, bytes: MiB });
  });

  test("before it has written has ended nothing", async () => {
    await using trial = await Trial.serve("FIFO", { args: required() });
    await using client = await secureTransmission(trial.socket, authority);
    client.below.socket.destroy();
    await trial.program.saying(/client 1 ended: dropped/);
    await isUnharmed(trial);
  });
});

test("NBD_CMD_DISC inside TLS answers what came before, and closes", async () => {
  await using trial = await Trial.serve("FIFO", { args: required() });
  await using client = await secureTransmission(trial.socket, authority);
  const piece = DATA.length / 4;
  for (let at = 0; at < DATA.length; at += piece) {
    client.inside.send(encodeWrite(at, DATA.subarray(at, at + piece), BigInt(at)));
  }
  client.inside.disconnect();
  for (let at = 0; at < DATA.length; at += piece) {
    expect(await client.inside.reply()).toEqual({ error: 0, cookie: BigInt(at) });
  }
  await client.inside.closed();
  await trial.completes(DATA);
});
