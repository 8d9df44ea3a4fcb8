import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { O_NONBLOCK } from "../../../ffi/constants.ts";
import { dup, setNonBlocking } from "../../../ffi/fd.ts";
import { IoVec, Memory } from "../../../ffi/memory.ts";
import { connect, internetAddress, recv } from "../../../ffi/socket.ts";
import { SocketSink } from "../../../src/endpoint/sinks/socket-sink.ts";
import { Descriptors, flagsOf, thrownBy } from "../../ffi/descriptors.ts";
import { bounded, eventually } from "../../support/program.ts";
import { LIMIT } from "../../support/limit.ts";

setDefaultTimeout(LIMIT);

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);

const SENT = new Memory(new Uint8Array(1000).fill(7));
const scratch = new Memory(1 << 16);

/** Gives the sink all of {@link SENT}. */
function send(sink: SocketSink): void {
  const vector = new IoVec(1);
  vector.push(SENT.at(0), SENT.length);
  expect(sink.writev(vector)).toBe(SENT.length);
}

/** What makes a stream truncated whose reader has gone. */
const RESET = { name: "EndpointError", cause: { code: "ECONNRESET" } };

describe("a Unix socket", () => {
  /** A sink that has been given all, and its reader, which has taken so many bytes. */
  function filled(fds: Descriptors, taken: number): { sink: SocketSink; reader: number } {
    const [near, reader] = fds.socketpair();
    const sink = new SocketSink("a socket", dup(near));
    // Or the peer would see an end only when this one is closed, too.
    fds.close(near);
    sink.open();
    send(sink);
    if (taken > 0) expect(recv(reader, scratch.at(0), taken)).toBe(taken);
    return { sink, reader };
  }

  test.each([0, 10, 999])("whose reader closes after %d bytes has lost the rest", (taken) => {
    using fds = new Descriptors();
    const { sink, reader } = filled(fds, taken);
    expect(sink.unread()).toBeGreaterThan(0);
    fds.close(reader);
    expect(thrownBy(() => sink.unread())).toMatchObject(RESET);
    sink.close();
  });

  test("is complete once its reader has taken all, and the reader sees the end", () => {
    using fds = new Descriptors();
    const { sink, reader } = filled(fds, SENT.length);
    expect(sink.unread()).toBe(0);
    // It does not close its own end, and need not.
    expect(sink.complete()).toBeTrue();
    expect(recv(reader, scratch.at(0), 1)).toBe(0);
    sink.close();
  });

  test("is complete when its reader has taken all and closed", () => {
    using fds = new Descriptors();
    const { sink, reader } = filled(fds, SENT.length);
    fds.close(reader);
    expect(sink.unread()).toBe(0);
    expect(sink.complete()).toBeTrue();
    sink.close();
  });

  test.each([true, false])("that blocks (%p) is as before at the end", (blocks) => {
    using fds = new Descriptors();
    const [near, reader] = fds.socketpair();
    setNonBlocking(near, !blocks);
    const sink = new SocketSink("a socket", dup(near));
    sink.open();
    expect(flagsOf(near) & O_NONBLOCK).toBe(O_NONBLOCK);
    send(sink);
    recv(reader, scratch.at(0), SENT.length);
    expect(sink.complete()).toBeTrue();
    sink.close();
    expect(flagsOf(near) & O_NONBLOCK).toBe(blocks ? 0 : O_NONBLOCK);
  });
});

describe("a TCP connection", () => {
  /** A sink whose reader's kernel has all, and the reader, which has taken none of it. */
  async function acknowledged(stack: DisposableStack) {
    const { promise, resolve } = Promise.withResolvers<Socket>();
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, resolve);
    stack.defer(() => server.close());
    await bounded(
      new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening)),
      "a listener",
    );
    const { port } = server.address() as AddressInfo;
    const sink = new SocketSink("a connection", connect(internetAddress(LOOPBACK, port), "it"));
    stack.defer(() => sink.close());
    const reader = await bounded(promise, "the connection");
    reader.on("error", () => {});
    stack.defer(() => reader.destroy());
    sink.open();
    send(sink);
    await eventually(() => sink.unread() === 0, "the acknowledgement");
    return { sink, reader };
  }

  /** What a call throws, which may take a moment to come. */
  async function failure(call: () => unknown): Promise<unknown> {
    let thrown: unknown;
    await eventually(() => {
      try {
        call();
      } catch (error) {
        thrown = error;
      }
      return thrown !== undefined;
    }, "a failure");
    return thrown;
  }

  test("whose reader closes without having taken all is reset, before the end", async () => {
    using stack = new DisposableStack();
    const { sink, reader } = await acknowledged(stack);
    reader.destroy();
    expect(await failure(() => sink.unread())).toMatchObject(RESET);
  });

  test("whose reader closes without having taken all is reset, after the end", async () => {
    using stack = new DisposableStack();
    const { sink, reader } = await acknowledged(stack);
    expect(sink.complete()).toBeFalse();
    reader.destroy();
    expect(await failure(() => sink.complete())).toMatchObject(RESET);
  });

  test("is complete when its reader closes after all", async () => {
    using stack = new DisposableStack();
    const { sink, reader } = await acknowledged(stack);
    expect(sink.complete()).toBeFalse();
    // What it says before that does not matter.
    reader.write("thank you");
    let taken = 0;
    reader.on("data", (bytes: Buffer) => (taken += bytes.length));
    reader.on("end", () => reader.end());
    reader.resume();
    await eventually(() => sink.complete(), "the reader's end");
    expect(taken).toBe(SENT.length);
  });

  test("is waited for, but not for ever, when its reader never closes", async () => {
    using stack = new DisposableStack();
    const { sink } = await acknowledged(stack);
    expect(sink.complete()).toBeFalse();
    const now = spyOn(performance, "now").mockReturnValue(performance.now() + 3_600_000);
    stack.defer(() => now.mockRestore());
    expect(sink.complete()).toBeTrue();
  });
});
