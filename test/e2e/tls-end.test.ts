/** A connection with TLS ends by close_notify (RFC 8446, 6.1), in whichever way it ends. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import {
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_LIST,
} from "../../src/protocol/constants.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { IN_TIME, LIMIT } from "../support/limit.ts";
import { encodeOption, encodeRequest, encodeWrite } from "../support/wire.ts";
import { CLOSE_NOTIFY, OpensslClient, TLS_VERSIONS } from "../support/openssl-client.ts";
import { eventually } from "../support/program.ts";
import { ReadTrial } from "../support/read-trial.ts";
import type { BaseTrial } from "../support/base-trial.ts";
import { tempFolder } from "../support/temp.ts";
import { secureTransmission } from "../support/tls-client.ts";
import { DATA, GATE, Trial } from "../support/trial.ts";

setDefaultTimeout(LIMIT);

const folder = tempFolder();
let pki: Certificates;
beforeAll(() => {
  pki = makeCertificates(folder.path);
});
afterAll(() => folder[Symbol.dispose]());

const KiB = 1024;
const MiB = 1024 * KiB;
const read = (length: number, at = 0) => encodeRequest(NBD_CMD_READ, at, length);
const BEGIN = encodeOption(NBD_OPT_EXPORT_NAME);
const DISC = encodeRequest(NBD_CMD_DISC, 0, 0);
const GARBAGE = Buffer.alloc(28, "garbage");
/** Small enough to be on its way before the next thing happens. */
const WRITE = encodeWrite(0, DATA.subarray(0, 64 * KiB));
const HALF = [encodeRequest(NBD_CMD_WRITE, 0, 64 * KiB), DATA.subarray(0, 1000)];

/** What is at the endpoint, and a client's part in the stream that it makes. */
const WRITES = { begins: WRITE, stops: HALF } as const;
const READS = {
  begins: read(64 * KiB),
  stops: [read(64 * KiB).subarray(0, 20)],
} as const;

interface Way {
  readonly way: string;
  /** What the client says inside TLS. */
  readonly words: (part: typeof WRITES | typeof READS) => readonly Uint8Array[];
  readonly args?: readonly string[];
  /** What is done when the client is there. */
  readonly then?: (trial: BaseTrial, client: OpensslClient) => Promise<unknown>;
}

/** Ends the program when a client is where it is expected to be. */
async function terminate({ program }: BaseTrial): Promise<void> {
  await Bun.sleep(200);
  program.process.kill("SIGTERM");
}

async function terminateTransmission(trial: BaseTrial): Promise<void> {
  await trial.program.saying(/client 1 connected/);
  await terminate(trial);
}

const WAYS: readonly Way[] = [
  { way: "NBD_CMD_DISC", words: (part) => [BEGIN, part.begins, DISC] },
  { way: "NBD_CMD_DISC at once", words: () => [BEGIN, DISC] },
  { way: "NBD_OPT_ABORT", words: () => [encodeOption(NBD_OPT_ABORT)] },
  {
    way: "NBD_OPT_ABORT behind many answers",
    words: () => [...Array(2000).fill(encodeOption(NBD_OPT_LIST)), encodeOption(NBD_OPT_ABORT)],
  },
  {
    way: "an export that is not served",
    words: () => [encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("other"))],
    args: ["-e", "disk"],
  },
  { way: "an option that makes no sense", words: () => [GARBAGE] },
  { way: "a request that makes no sense", words: (part) => [BEGIN, part.begins, GARBAGE] },
  {
    way: "the deadline of negotiation",
    words: () => [encodeOption(NBD_OPT_LIST).subarray(0, 9)],
    args: ["--negotiation-timeout=2"],
  },
  {
    way: "a request that stops half way",
    words: (part) => [BEGIN, ...part.stops],
    args: ["--idle-timeout=0.3"],
  },
  {
    way: "a signal during negotiation",
    words: () => [encodeOption(NBD_OPT_LIST)],
    async then({ program }, client) {
      await client.answered();
      program.process.kill("SIGTERM");
    },
  },
  {
    way: "a signal between requests",
    words: (part) => [BEGIN, part.begins],
    then: terminateTransmission,
  },
  {
    way: "a signal within a request",
    words: (part) => [BEGIN, ...part.stops],
    then: terminateTransmission,
  },
];

/** What {@link OpensslClient.ended} has to tell. */
async function endsWell(client: OpensslClient): Promise<string> {
  const { status, last, stdout, stderr } = await client.ended();
  expect({ status, last }, stderr).toEqual({ status: 0, last: CLOSE_NOTIFY });
  return stdout;
}

/** The program's words for a stream of so many bytes. */
const required = (size: string) => [
  "--tls=require",
  `--tls-certificates=${pki.all}`,
  `size=${size}`,
];

const missing = Bun.which("openssl") === null ? " (needs openssl)" : "";

describe.skipIf(missing !== "").each(TLS_VERSIONS)(`%s${missing}`, (_, version) => {
  const connect = (where: string, ...words: readonly Uint8Array[]) =>
    OpensslClient.connect(where, version, pki.all, ...words);

  describe.each([
    ["pipe=", WRITES],
    ["read=", READS],
  ] as const)("%s: close_notify ends a connection that ends by", (parameter, part) => {
    test.each(WAYS.map((way) => [way.way, way] as const))("%s", async (_, way) => {
      const args = [...required("64K"), ...(way.args ?? [])];
      await using trial =
        parameter === "pipe="
          ? await Trial.serve("FIFO", { args })
          : await ReadTrial.serve({ path: "/dev/zero" }, { args });
      await using client = await connect(trial.socket, ...way.words(part));
      await way.then?.(trial, client);
      await endsWell(client);
    });
  });

  test("close_notify ends the connection of a client that is left when the command of run has ended", async () => {
    const args = [...required("64K"), "-U", "../own/nbd.sock"];
    await using trial = await Trial.run("FIFO", ["sh", "-c", `: > begun; ${GATE}`], { args });
    await eventually(() => existsSync(trial.file("begun")), "the command");
    await using client = await connect(trial.socket, BEGIN, WRITE);
    await trial.program.saying(/client 1 connected/);
    trial.openGate();
    await endsWell(client);
  });

  test("close_notify ends the connection of a client whose stream another one has broken", async () => {
    await using trial = await Trial.serve("FIFO", { args: required("64K") });
    await using client = await connect(trial.socket, BEGIN);
    await trial.program.saying(/client 1 connected/);
    await using other = await secureTransmission(trial.socket, pki.authority.certificate);
    expect(await other.inside.write(1000, DATA.subarray(0, 1000))).toBe(0);
    expect(await other.inside.write(0, DATA.subarray(0, 1000))).not.toBe(0);
    await endsWell(client);
  });

  test("close_notify ends the connection of a client with a certificate of somebody else", async () => {
    const args = [...required("64K"), "--tls-verify-peer"];
    await using trial = await Trial.serve("FIFO", { args });
    // With TLS 1.3 it may speak before it is refused, and does not: what the program had not read by then
    // would have the kernel reset the connection at its end (RFC 1122, 4.2.2.13; so do Unix sockets), and the
    // client might not see close_notify any more.
    await using client = await OpensslClient.connect(trial.socket, version, pki.stranger);
    await trial.program.saying(/refused: TLS failed/);
    await endsWell(client);
  });

  test(
    "close_notify is behind all that a client gets that takes its time",
    async () => {
      // As many as are needed for one to fill the kernel's buffers exactly.
      await Promise.all(
        Array.from({ length: 8 }, async (_, i) => {
          const length = (1 << 20) + i * 12_345;
          const source = { exec: `head -c ${length} /dev/zero | tr '\\0' x` };
          await using trial = await ReadTrial.serve(source, { args: required(String(length)) });
          await using client = await connect(trial.socket, BEGIN, read(length), DISC);
          client.signal("SIGSTOP");
          await Bun.sleep(400);
          client.signal("SIGCONT");
          expect(await endsWell(client)).toEndWith("x".repeat(length));
          await trial.completes(length);
        }),
      );
    },
    // The program waits for three seconds while a client takes nothing.
    IN_TIME,
  );

  test(
    "close_notify ends a connection whose answers a signal interrupts",
    async () => {
      await using trial = await ReadTrial.serve({ path: "/dev/zero" }, { args: required("1G") });
      const reads = Array.from({ length: 32 }, (_, i) => read(32 * MiB, i * 32 * MiB));
      await using client = await connect(trial.socket, BEGIN, ...reads);
      await trial.program.saying(/client 1 connected/);
      await Bun.sleep(200);
      await terminate(trial);
      await endsWell(client);
    },
    // After a signal the program gives clients a short time to take the rest.
    IN_TIME,
  );
});

test("a client that has ended its side of TLS gets the answers to what it has asked before", async () => {
  const args = required(String(DATA.length));
  await using trial = await ReadTrial.serve({ fifo: "cat data" }, { args });
  await using client = await secureTransmission(trial.socket, pki.authority.certificate);
  client.inside.send(read(DATA.length), DISC);
  client.inside.socket.end();
  expect((await client.inside.reply()).error).toBe(0);
  expect((await client.inside.receive(DATA.length)).equals(DATA)).toBeTrue();
  await client.inside.closed();
  await trial.completes(DATA.length);
});
