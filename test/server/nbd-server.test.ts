/** Where clients come in, with real sockets, and streams that only take note of them. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { IPPROTO_TCP, TCP_USER_TIMEOUT } from "../../ffi/constants.ts";
import { close } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { messageOf } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { NBD_OPT_GO, NBD_REP_ACK, NBD_REP_ERR_UNKNOWN } from "../../src/protocol/constants.ts";
import type { Entrance } from "../../src/net/address.ts";
import type { ExportInfo } from "../../src/protocol/export.ts";
import { NbdServer, type StreamExport } from "../../src/server/nbd-server.ts";
import type { NegotiatedConnection } from "../../src/stream/messages.ts";
import { infoRequest } from "../handshake/conversation.ts";
import { LIMIT } from "../support/limit.ts";
import { RawClient, turnedAway } from "../support/nbd-client.ts";
import { bounded, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { encodeOption } from "../support/wire.ts";

setDefaultTimeout(LIMIT);

const LOG: Log = { info() {}, warn() {}, verbose() {} };

/** A stream that keeps its clients, and has an idle one where a test says so. */
class Recorder implements StreamExport {
  readonly info: ExportInfo;
  readonly clients: NegotiatedConnection[] = [];
  abandonments = 0;
  pokes = 0;
  asked = 0;
  reconnect: number | undefined;
  /** What is done when somebody needs a place. */
  evict = async () => false;

  constructor(name: string) {
    this.info = { name, size: 1024, flags: 1, description: "" };
  }

  get open(): number {
    return this.clients.length;
  }

  connected(client: NegotiatedConnection): void {
    this.clients.push(client);
  }

  abandoned(): void {
    this.abandonments++;
  }

  evictIdle(): Promise<boolean> {
    this.asked++;
    return this.evict();
  }

  poke(): void {
    this.pokes++;
  }
}

let folder: ReturnType<typeof tempFolder>;
let path: string;
let server: NbdServer;
let vda: Recorder;
let vdb: Recorder;
let begun: number;

beforeEach(() => {
  folder = tempFolder();
  path = folder.file("socket");
  [vda, vdb] = [new Recorder("vda"), new Recorder("vdb")];
  begun = 0;
});

afterEach(() => {
  for (const { info, clients } of [vda, vdb]) {
    for (const { fd } of clients) close(fd);
    server.remove(info);
  }
  server.fail(new Error("the test is over"));
  folder[Symbol.dispose]();
});

function make(maxConnections = 10, onListening = () => {}): void {
  const entrance = { kind: "unix", path } as const;
  makeAt(entrance, maxConnections, onListening);
}

function makeAt(entrance: Entrance, maxConnections = 10, onListening = () => {}): void {
  server = new NbdServer({
    entrance,
    log: LOG,
    exports: 2,
    security: { policy: "off" },
    negotiationTimeout: 30_000,
    maxConnections,
    onListening() {
      begun++;
      onListening();
    },
  });
}

/** Both streams begin. */
async function begin(maxConnections?: number): Promise<void> {
  make(maxConnections);
  await beginAll();
}

async function beginAll(): Promise<void> {
  await Promise.all([server.prepared(), server.prepared()]);
  server.add(vda);
  server.add(vdb);
  await server.listening;
}

const choosing = (client: RawClient, name: string) => client.option(NBD_OPT_GO, infoRequest(name));

async function chosen(name: string): Promise<RawClient> {
  const client = await RawClient.negotiating(path);
  expect((await choosing(client, name)).type).toBe(NBD_REP_ACK);
  return client;
}

/** Milliseconds after which TCP gives up; 0 is the kernel's default. */
function tcpUserTimeout(fd: number): number {
  const [value, length] = [new Memory(4), new Memory(4)];
  length.view.setUint32(0, 4, true);
  expect(libc.getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value.at(0), length.at(0))).toBe(0);
  return value.view.getInt32(0, true);
}

/** Why each of them is rejected. */
const reasons = (...promises: Promise<void>[]) =>
  Promise.all(promises.map((one) => one.then(() => "nothing", messageOf)));

describe("the beginning", () => {
  test("listens when the last endpoint is prepared, and not before", async () => {
    make();
    const first = server.prepared();
    await Bun.sleep(1);
    expect([existsSync(path), begun]).toEqual([false, 0]);
    await Promise.all([first, server.prepared()]);
    expect([existsSync(path), begun]).toEqual([true, 1]);
  });

  test("lets clients in when the last stream is added", async () => {
    make();
    await Promise.all([server.prepared(), server.prepared()]);
    let listening = false;
    void server.listening.then(() => (listening = true));
    server.add(vda);
    await Promise.resolve();
    expect(listening).toBeFalse();
    server.add(vdb);
    await server.listening;
    expect(listening).toBeTrue();
    expect(server.address).toEqual({ kind: "unix", path });
    expect(server.uri("vdb")).toBe(`nbd+unix:///vdb?socket=${path}`);
  });

  test("does not come where a stream cannot begin, and the others learn why", async () => {
    make();
    const first = server.prepared();
    server.fail(new Error("no FIFO"));
    // A stream that comes to this point later.
    expect(await reasons(first, server.prepared())).toEqual(["no FIFO", "no FIFO"]);
    expect([existsSync(path), begun]).toEqual([false, 0]);
  });

  test("is undone where a stream fails after it listens", async () => {
    make();
    await Promise.all([server.prepared(), server.prepared()]);
    server.add(vda);
    server.fail(new Error("no thread"));
    expect(await reasons(server.listening)).toEqual(["no thread"]);
    expect(existsSync(path)).toBeFalse();
  });

  test("fails for all streams where the server cannot listen", async () => {
    writeFileSync(path, "somebody's");
    make();
    const [one, other] = await reasons(server.prepared(), server.prepared());
    expect(one).toContain(`cannot listen on ${path}`);
    expect(other).toBe(one);
    expect(begun).toBe(0);
    expect(existsSync(path)).toBeTrue();
  });

  test("fails for all streams where what is to be done before it throws", async () => {
    make(10, () => {
      throw new Error("no report");
    });
    const both = reasons(server.prepared(), server.prepared());
    expect(await both).toEqual(["no report", "no report"]);
    expect(existsSync(path)).toBeFalse();
  });
});

test("a client gets to the stream that it chooses, and to no other", async () => {
  await begin();
  using one = await chosen("vdb");
  one.send(Buffer.from("for vdb"));
  await eventually(() => vdb.open === 1, "the client");
  using other = await chosen("vda");
  await eventually(() => vda.open === 1, "the other client");
  expect([vda.open, vdb.open, server.accepted]).toEqual([1, 1, 2]);
  expect(other).toBeDefined();
});

test("a failure of one stream, once clients can come, leaves the server to the others", async () => {
  await begin();
  server.remove(vda.info);
  server.fail(new Error("a crash"));
  using client = await chosen("vdb");
  await eventually(() => vdb.open === 1, "the client");
  expect(client).toBeDefined();
});

describe("an export that is taken out", () => {
  test("is listed no more, and cannot be chosen", async () => {
    await begin();
    using client = await RawClient.negotiating(path);
    server.remove(vda.info);
    expect(server.all).toEqual([vdb.info]);
    const { type, data } = await choosing(client, "vda");
    expect([type, String(data)]).toEqual([NBD_REP_ERR_UNKNOWN, 'the export is called "vdb"']);
    expect((await choosing(client, "")).type).toBe(NBD_REP_ERR_UNKNOWN);
    expect((await choosing(client, "vdb")).type).toBe(NBD_REP_ACK);
  });

  test("loses a client that has chosen it in this moment, and that alone", async () => {
    await begin();
    using undecided = await RawClient.negotiating(path);
    using decided = await RawClient.negotiating(path);
    const negotiating = (accepted?: number) => server.negotiating(vdb.info, accepted).count;
    await eventually(() => negotiating() === 2, "both clients");
    // The choice is taken, and the connection is handed over in the next turn of the event loop.
    const looking = setInterval(() => {
      if (negotiating() === 2) return;
      clearInterval(looking);
      server.remove(vda.info);
    }, 0);
    // It is the connection manager that hears of the choice before the stream does.
    decided.send(encodeOption(NBD_OPT_GO, infoRequest("vda")));
    await eventually(() => server.all.length === 1, "the export to be taken out");
    if (vda.open === 0) await decided.closed();
    expect((await choosing(undecided, "vdb")).type).toBe(NBD_REP_ACK);
    await eventually(() => vdb.open === 1, "the other client");
    clearInterval(looking);
  });

  test("closes the server when it is the last one", async () => {
    await begin();
    using undecided = await RawClient.negotiating(path);
    server.remove(vda.info);
    expect(existsSync(path)).toBeTrue();
    server.remove(vda.info);
    expect(existsSync(path)).toBeTrue();
    server.remove(vdb.info);
    expect(existsSync(path)).toBeFalse();
    await undecided.closed();
  });
});

describe("a client that leaves in negotiation", () => {
  test("may have been one of every stream, before its choice", async () => {
    await begin();
    const client = await RawClient.negotiating(path);
    await eventually(() => server.negotiating(vda.info).count === 1, "the client");
    client[Symbol.dispose]();
    await eventually(() => vda.abandonments + vdb.abandonments === 2, "both streams to hear of it");
    expect([vda.abandonments, vdb.abandonments]).toEqual([1, 1]);
    expect(vda.pokes).toBeGreaterThan(0);
    expect(vdb.pokes).toBeGreaterThan(0);
  });
});

test("a stream whose clients may come back has the kernel look after their links, and no other has", async () => {
  makeAt({ kind: "tcp", host: "127.0.0.1", port: 0 });
  vdb.reconnect = 5000;
  await beginAll();
  const { port } = server.address as { port: number };
  const clients: RawClient[] = [];
  try {
    for (const name of ["vda", "vdb"]) {
      const client = await RawClient.negotiating(port);
      clients.push(client);
      expect((await choosing(client, name)).type).toBe(NBD_REP_ACK);
    }
    await eventually(() => vda.open + vdb.open === 2, "both clients");
    const patience = ({ clients: [one] }: Recorder) => tcpUserTimeout(one?.fd as number);
    expect([patience(vda), patience(vdb)]).toEqual([0, 5000]);
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});

describe("the limit of connections", () => {
  test("counts the clients of all streams, and those that negotiate", async () => {
    await begin(3);
    using a = await chosen("vda");
    using b = await chosen("vdb");
    await eventually(() => vda.open + vdb.open === 2, "both clients");
    using c = await RawClient.negotiating(path);
    await turnedAway(path);
    expect([vda.asked, vdb.asked]).toEqual([1, 1]);
    expect([a, b, c]).not.toContain(undefined);
  });

  test("lets a newcomer in where any stream has an idle client", async () => {
    await begin(2);
    using a = await chosen("vda");
    using b = await chosen("vdb");
    await eventually(() => vda.open + vdb.open === 2, "both clients");
    vdb.evict = async () => {
      close(vdb.clients.pop()?.fd as number);
      return true;
    };
    using newcomer = await chosen("vda");
    await eventually(() => vda.open === 2, "the newcomer");
    await b.closed();
    expect([vda.asked, vdb.asked]).toEqual([1, 1]);
    expect([a, newcomer]).not.toContain(undefined);
  });

  test("takes no second client away where the first stream has made room", async () => {
    await begin(2);
    using a = await chosen("vda");
    using b = await chosen("vdb");
    await eventually(() => vda.open + vdb.open === 2, "both clients");
    vda.evict = async () => {
      close(vda.clients.pop()?.fd as number);
      return true;
    };
    using newcomer = await chosen("vdb");
    await bounded(a.closed(), "the idle client to be gone");
    await eventually(() => vdb.open === 2, "the newcomer");
    expect([vda.asked, vdb.asked]).toEqual([1, 0]);
    expect([b, newcomer]).not.toContain(undefined);
  });
});
