/** Clients at the door, with real sockets. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { close } from "../../ffi/fd.ts";
import { exportInfo } from "../../src/server/disk.ts";
import { Reception } from "../../src/server/reception.ts";
import type { Client } from "../../src/stream/channel.ts";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { encodeOption, RawClient, turnedAway } from "../support/nbd-client.ts";
import { eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const CHOICE = Buffer.concat([
  Buffer.from([0, 0, 0, 3]),
  encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("disk")),
]);

let folder: ReturnType<typeof tempFolder>;
let path: string;
let clients: Client[];
let closed: [string, boolean][];
let listener: { stop(closeAll?: boolean): void };
let reception: Reception;

beforeEach(() => {
  folder = tempFolder();
  path = folder.file("socket");
  clients = [];
  closed = [];
});

afterEach(() => {
  listener.stop(true);
  for (const { fd } of clients) close(fd);
  folder[Symbol.dispose]();
});

function open(maxConnections = 2, negotiationTimeout = 30): void {
  reception = new Reception(
    {
      info: exportInfo(undefined, { direction: "write", size: 1n << 20n } as never),
      security: { policy: "off" },
      negotiationTimeout,
      maxConnections,
      inTransmission: () => clients.length,
    },
    {
      onTransmission: (client) => clients.push(client),
      onClose: (reason, fault) => closed.push([reason, fault]),
    },
  );
  listener = Bun.listen({ unix: path, socket: reception.handler });
}

async function greeted(): Promise<RawClient> {
  const client = await RawClient.connect(path);
  await client.receive(18);
  return client;
}

test("a client that has chosen is handed over, with what it has sent behind its choice", async () => {
  open();
  using client = await greeted();
  expect([reception.visitors, reception.negotiating]).toEqual([1, 1]);
  client.send(CHOICE, Buffer.from("behind"));
  await eventually(() => clients.length === 1, "the client");
  expect(Buffer.from(clients[0]?.leftover ?? []).toString()).toBe("behind");
  expect(clients[0]?.negotiated).toEqual({
    structured: false,
    extended: false,
    allocation: false,
  });
  expect([reception.visitors, reception.negotiating]).toEqual([1, 0]);
  expect(closed).toEqual([]);
});

test("clients that negotiate and those that were handed over count together", async () => {
  open(2);
  using first = await greeted();
  first.send(CHOICE);
  await eventually(() => clients.length === 1, "the client");
  using second = await greeted();
  await turnedAway(path);
  expect(closed).toEqual([["a connection was refused: 2 are open (--max-connections)", false]]);
  expect([reception.visitors, reception.negotiating]).toEqual([2, 1]);
  second.socket.destroy();
  await eventually(() => reception.negotiating === 0, "the second to be gone");
  using fourth = await greeted();
  fourth.send(CHOICE);
  await eventually(() => clients.length === 2, "the fourth");
});

test("a client that does not choose in time is cut off; one that has is not", async () => {
  open(2, 0.3);
  using silent = await greeted();
  using client = await greeted();
  client.send(CHOICE);
  await silent.closed();
  expect(closed).toEqual([["negotiation has taken more than 0.3 s", true]]);
  await Bun.sleep(400);
  expect(clients.length).toBe(1);
  expect(closed.length).toBe(1);
});

test("what is no NBD is refused, and told of once", async () => {
  open();
  using client = await greeted();
  client.send(Buffer.from("GET / HTTP/1.0\r\n\r\n"));
  await client.closed();
  await eventually(() => closed.length > 0, "the end");
  await Bun.sleep(50);
  expect(closed.map(([, fault]) => fault)).toEqual([true]);
  expect(reception.negotiating).toBe(0);
});

test("closing ends what is negotiating, and nothing that was handed over", async () => {
  open();
  using one = await greeted();
  one.send(CHOICE);
  await eventually(() => clients.length === 1, "the client");
  await one.receive(10);
  using other = await greeted();
  reception.close();
  await other.closed();
  expect(closed).toEqual([["the server has no time for it any more", false]]);
  await Bun.sleep(50);
  expect(one.socket.readyState).toBe("open");
});
