/** The bridge between a client's socket and the stream thread's, without TLS itself. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { growSendBuffer, recv, send, socketpair } from "../../ffi/socket.ts";
import { TlsBridge } from "../../src/tls/tls-bridge.ts";
import { TlsClose } from "../../src/tls/tls-close.ts";
import { pseudoRandom } from "../support/images.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually } from "../support/program.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
/** No part of it is equal to another. */
const DATA = new Memory(pseudoRandom(32 * MiB));
/** What the kernel and one chunk of Bun's hold at most, on a machine whose socket buffers are large. */
const UNDER_WAY = 24 * MiB;
/** Where the kernel allows it, larger than all that Bun receives at a time. */
const SEND_BUFFER = 3 * MiB;
/** Long enough for what must not move to move. */
const QUIET = 200;

/** The client's end of its connection, and the stream thread's of the pair; -1 once closed. */
let client: number;
let stream: number;
let secure: Socket<undefined>;
let bridge: TlsBridge;

beforeEach(async () => {
  const [accepted, clientEnd] = socketpair();
  const [bridgeEnd, streamEnd] = socketpair();
  for (const fd of [accepted, streamEnd]) growSendBuffer(fd, SEND_BUFFER);
  client = clientEnd;
  stream = streamEnd;
  // As Session does it, with a socket that encrypts nothing.
  secure = await Bun.connect({
    fd: accepted,
    allowHalfOpen: true,
    socket: {
      data: (_: unknown, chunk: Uint8Array) => bridge.received(chunk),
      drain: () => bridge.drained(),
      end: () => bridge.ended(),
      close: () => bridge.closed(),
      error: () => {},
    },
  } as never);
  bridge = new TlsBridge(secure, new TlsClose(secure), bridgeEnd);
});

afterEach(() => {
  for (const fd of [client, stream]) if (fd >= 0) close(fd);
  secure.terminate();
});

/** Sends data until nothing more is taken for a while. @returns where it stopped */
async function fill(fd: number, from = 0): Promise<number> {
  let at = from;
  for (let quiet = 0; quiet < QUIET && at < DATA.length; quiet += 10) {
    for (let n = 0; n !== WOULD_BLOCK && at < DATA.length;) {
      n = send(fd, DATA.at(at), Math.min(MiB, DATA.length - at));
      if (n === WOULD_BLOCK) break;
      at += n;
      quiet = 0;
    }
    await Bun.sleep(10);
  }
  return at;
}

/** Sends the rest of the data at one end while the other takes all of it, in pieces of odd lengths. */
async function pass(sender: number, receiver: number, from: number): Promise<void> {
  const got = new Memory(DATA.length);
  let sent = from;
  let received = 0;
  await eventually(() => {
    if (sent < DATA.length) sent += Math.max(0, send(sender, DATA.at(sent), DATA.length - sent));
    for (let i = 0; i < 8 && received < DATA.length; i++) {
      const length = Math.min(77_777, DATA.length - received);
      received += Math.max(0, recv(receiver, got.at(received), length));
    }
    return received === DATA.length;
  }, "all data");
  expect(Buffer.from(got.bytes).equals(Buffer.from(DATA.bytes))).toBeTrue();
}

test("a stream that takes nothing stops the client, and gets all in order once it does", async () => {
  const sent = await fill(client);
  expect(sent).toBeLessThan(UNDER_WAY);
  await pass(client, stream, sent);
});

test("a client that takes nothing stops the stream, and gets all in order once it does", async () => {
  const sent = await fill(stream);
  expect(sent).toBeLessThan(UNDER_WAY);
  await pass(stream, client, sent);
});

test("the end of the client's side comes behind all that waits for the stream", async () => {
  const sent = await fill(client);
  close(client);
  client = -1;
  const got = new Memory(DATA.length);
  let received = 0;
  await eventually(() => {
    let n = 0;
    do n = recv(stream, got.at(received), DATA.length - received);
    while (n > 0 && (received += n) > 0);
    return n === 0;
  }, "the end");
  expect(
    Buffer.from(got.bytes.subarray(0, received)).equals(DATA.bytes.subarray(0, sent)),
  ).toBeTrue();
});
