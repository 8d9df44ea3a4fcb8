/** Clients at the door, with real sockets. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { close } from "../../ffi/fd.ts";
import { exportInfo } from "../../src/server/stream-server.ts";
import { ConnectionManager } from "../../src/net/connection-manager.ts";
import type { NegotiatedConnection } from "../../src/stream/messages.ts";
import { NBD_OPT_EXPORT_NAME } from "../../src/protocol/constants.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { encodeOption } from "../support/wire.ts";
import { eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { told } from "../support/told.ts";
import { onlyExport } from "../../src/protocol/export.ts";

setDefaultTimeout(LIMIT);

const CHOICE = Buffer.concat([
  Buffer.from([0, 0, 0, 3]),
  encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from("disk")),
]);

let folder: ReturnType<typeof tempFolder>;
let path: string;
let clients: NegotiatedConnection[];
let closed: [string | undefined, boolean][];
let listener: { stop(closeAll?: boolean): void };
let connections: ConnectionManager;
/** What is done when somebody needs a place; there is none if nothing else is said. */
let makeRoom: () => void;

beforeEach(() => {
  folder = tempFolder();
  path = folder.file("socket");
  clients = [];
  closed = [];
  makeRoom = () => queueMicrotask(() => connections.makeRoomDone());
});

afterEach(() => {
  listener.stop(true);
  for (const { fd } of clients) close(fd);
  folder[Symbol.dispose]();
});

/** As much of a stream as clients are told of. */
const PLAN = { direction: "write", size: 1n << 20n, endpoint: { kind: "fifo", path: "none" } };

function open(maxConnections = 2, negotiationTimeout = 30_000): void {
  connections = new ConnectionManager(
    {
      exports: onlyExport(exportInfo(undefined, PLAN as never)),
      security: { policy: "off" },
      negotiationTimeout,
      maxConnections,
      reconnectOf: () => undefined,
      inTransmission: () => clients.length,
      makeRoom: () => makeRoom(),
    },
    {
      onTransmission: (client) => clients.push(client),
      onAbandon: () => {},
      onClose: (reason, fault) => closed.push([told(reason), fault]),
    },
  );
  listener = Bun.listen({ unix: path, socket: connections.handler });
}

/** Has room for one. @returns what resolves when somebody comes for whom room is to be made */
function openFull(): Promise<void> {
  open(1);
  return new Promise<void>((resolve) => {
    makeRoom = resolve;
  });
}

/** A client that has heard the greeting, and not answered it. */
async function greeted(): Promise<RawClient> {
  const client = await RawClient.connect(path);
  await client.receive(18);
  return client;
}

test("a client that has chosen is handed over, with what it has sent behind its choice", async () => {
  open();
  using client = await greeted();
  expect([connections.accepted, connections.negotiating().count]).toEqual([1, 1]);
  client.send(CHOICE, Buffer.from("behind"));
  await eventually(() => clients.length === 1, "the client");
  expect(Buffer.from(clients[0]?.leftover ?? []).toString()).toBe("behind");
  expect(clients[0]?.negotiated).toEqual({
    structured: false,
    extended: false,
    allocation: false,
  });
  expect([connections.accepted, connections.negotiating().count]).toEqual([1, 0]);
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
  expect([connections.accepted, connections.negotiating().count]).toEqual([2, 1]);
  second.socket.destroy();
  await eventually(() => connections.negotiating().count === 0, "the second to be gone");
  using fourth = await greeted();
  fourth.send(CHOICE);
  await eventually(() => clients.length === 2, "the fourth");
});

describe("a newcomer for whom there is no place", () => {
  test("waits for the answer whether there is one, and is served if there is", async () => {
    const asked = openFull();
    using first = await greeted();
    first.send(CHOICE);
    await eventually(() => clients.length === 1, "the client");
    using newcomer = await RawClient.connect(path);
    // It does not wait to be greeted.
    newcomer.send(CHOICE);
    await asked;
    await Bun.sleep(50);
    expect([connections.hasWaiting, connections.accepted, connections.negotiating().count]).toEqual(
      [true, 1, 0],
    );
    close((clients.shift() as NegotiatedConnection).fd);
    connections.makeRoomDone();
    await newcomer.receive(18 + 10);
    await eventually(() => clients.length === 1, "the newcomer");
    expect(connections.hasWaiting).toBeFalse();
    expect(closed).toEqual([]);
  });

  test("is refused if there is none", async () => {
    const asked = openFull();
    using _first = await greeted();
    using newcomer = await RawClient.connect(path);
    await asked;
    connections.makeRoomDone();
    await newcomer.closed();
    expect(closed).toEqual([["a connection was refused: 1 are open (--max-connections)", false]]);
  });

  test("may leave meanwhile", async () => {
    const asked = openFull();
    using first = await greeted();
    {
      using _newcomer = await RawClient.connect(path);
      await asked;
    }
    connections.makeRoomDone();
    expect(first.socket.readyState).toBe("open");
    await eventually(() => !connections.hasWaiting, "the newcomer to be gone");
  });

  test("is turned away at once where others wait already", async () => {
    open(1);
    let asked = 0;
    makeRoom = () => asked++;
    using _first = await greeted();
    using stack = new DisposableStack();
    for (let i = 0; i < 4; i++) stack.use(await RawClient.connect(path));
    await eventually(() => asked === 4, "four to ask");
    await turnedAway(path);
    expect(asked).toBe(4);
  });

  test("is turned away when nobody is let in any more", async () => {
    const asked = openFull();
    using _first = await greeted();
    using newcomer = await RawClient.connect(path);
    await asked;
    connections.close();
    await newcomer.closed();
    await eventually(() => !connections.hasWaiting, "nobody to wait");
  });
});

test("who negotiates is counted, and heard, by when it came", async () => {
  open(3);
  expect(connections.negotiating()).toEqual({ count: 0, silence: Number.POSITIVE_INFINITY });
  using first = await greeted();
  const { accepted } = connections;
  using _second = await greeted();
  expect(connections.negotiating().count).toBe(2);
  expect(connections.negotiating(undefined, accepted).count).toBe(1);
  const silence = () => connections.negotiating(undefined, accepted).silence;
  await eventually(() => silence() > 100, "silence");
  const long = silence();
  // A word at each look, until one of them is heard before the next look.
  let said = 0;
  const isHeard = () => {
    if (said < CHOICE.length - 1) first.send(CHOICE.subarray(said, ++said));
    return silence() < long;
  };
  await eventually(isHeard, "a word to be heard");
});

test("a client that does not choose before its timeout is cut off; one that has is not", async () => {
  open(2, 2000);
  using client = await greeted();
  client.send(CHOICE);
  await eventually(() => clients.length === 1, "the client");
  // Its timeout ends after that of the client that has chosen.
  using silent = await greeted();
  await silent.closed();
  expect(closed).toEqual([["negotiation has taken more than 2 s", true]]);
  expect(client.socket.readyState).toBe("open");
});

test("what is no NBD is refused, and told of once", async () => {
  open();
  using client = await greeted();
  client.send(Buffer.from("GET / HTTP/1.0\r\n\r\n"));
  await client.closed();
  await eventually(() => closed.length > 0, "the end");
  await Bun.sleep(50);
  expect(closed.map(([, fault]) => fault)).toEqual([true]);
  expect(connections.negotiating().count).toBe(0);
});

test("closing ends what is negotiating, and nothing that was handed over", async () => {
  open();
  using one = await greeted();
  one.send(CHOICE);
  await eventually(() => clients.length === 1, "the client");
  await one.receive(10);
  using other = await greeted();
  connections.close();
  await other.closed();
  expect(closed).toEqual([["the server has no time for it any more", false]]);
  await Bun.sleep(50);
  expect(one.socket.readyState).toBe("open");
});
