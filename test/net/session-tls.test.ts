/** A connection whose client has begun TLS, from negotiation to its end, with real sockets. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { recv } from "../../ffi/socket.ts";
import { ConnectionManager } from "../../src/net/connection-manager.ts";
import type { Session } from "../../src/net/session.ts";
import { NBD_OPT_STARTTLS } from "../../src/protocol/constants.ts";
import { onlyExport } from "../../src/protocol/export.ts";
import { exportInfo } from "../../src/server/stream-server.ts";
import type { NegotiatedConnection } from "../../src/stream/messages.ts";
import { loadCertificates } from "../../src/tls/certificates.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { bounded, command, eventually } from "../support/program.ts";
import { RawClient } from "../support/nbd-client.ts";
import { tempFolder } from "../support/temp.ts";
import { secureTransmission } from "../support/tls-client.ts";
import { DATA as STREAM, Trial } from "../support/trial.ts";
import { encodeOption } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const DATA = pseudoRandom(1024 * 1024);
const PLAN = { direction: "write", size: 1n << 20n, endpoint: { kind: "fifo", path: "none" } };

const folder = tempFolder();
let pki: Certificates;
beforeAll(() => {
  pki = makeCertificates(folder.path);
});
afterAll(() => folder[Symbol.dispose]());

test("Bun delivers nothing below TLS, and each client is heard and ends by itself", async () => {
  const clients: NegotiatedConnection[] = [];
  const ended: string[] = [];
  const options = loadCertificates(pki.all, false);
  const info = exportInfo(undefined, PLAN as never);
  const connections = new ConnectionManager(
    {
      exports: onlyExport(info),
      security: { policy: "require", folder: pki.all, options },
      negotiationTimeout: 30_000,
      maxConnections: 2,
      reconnectOf: () => undefined,
      inTransmission: () => clients.length,
      makeRoom: () => {},
    },
    {
      onTransmission: (one) => clients.push(one),
      onAbandon: () => ended.push("abandoned"),
      onClose: () => ended.push("closed"),
    },
  );
  // What is delivered for accepted sockets.
  let clear = 0;
  const { data } = connections.handler;
  connections.handler.data = (socket: Socket<Session>, chunk) => {
    clear += chunk.length;
    return data?.(socket, chunk);
  };
  const path = folder.file("socket");
  using _listener = Bun.listen({ unix: path, socket: connections.handler });
  for (let i = 0; i < 2; i++) {
    let flushed: Promise<void>;
    {
      await using client = await secureTransmission(path, pki.authority.certificate);
      await eventually(() => clients.length === 1, "the client");
      client.inside.send(DATA);
      const { fd } = clients.pop() as NegotiatedConnection;
      const got = new Memory(DATA.length);
      let received = 0;
      await eventually(() => {
        received += Math.max(0, recv(fd, got.at(received), got.length - received));
        return received === got.length;
      }, "the data");
      expect(Buffer.from(got.bytes).equals(DATA)).toBeTrue();
      close(fd);
      flushed = connections.flushTls(info, new AbortController().signal);
    }
    await bounded(flushed, "the client's end to be noticed");
  }
  expect(ended).toEqual([]);
  // The flags and NBD_OPT_STARTTLS of each.
  expect(clear).toBe(2 * (4 + 16));
});

const missing = Bun.which("prlimit") === null ? " (needs prlimit)" : "";

test.skipIf(missing !== "")(
  `without a descriptor to begin TLS with, a client is refused, and the next one is served${missing}`,
  async () => {
    const args = ["--tls=require", `--tls-certificates=${pki.all}`];
    await using trial = await Trial.serve("FIFO", { args });
    const limit = (files: string) =>
      command(["prlimit", "--pid", `${trial.program.process.pid}`, `--nofile=${files}:`]);
    using client = await RawClient.negotiating(trial.socket);
    await limit("3");
    client.send(encodeOption(NBD_OPT_STARTTLS));
    await client.closed();
    await trial.program.saying(/refused: cannot begin TLS: dup [0-9]+: /);
    await limit("256");
    await using other = await secureTransmission(trial.socket, pki.authority.certificate);
    expect(await other.inside.write(0, STREAM.subarray(0, 1000))).toBe(0);
    other.inside.disconnect();
    await trial.completes(STREAM.subarray(0, 1000));
  },
);
