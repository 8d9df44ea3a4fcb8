import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket as BunSocket, TCPSocketListener, UnixSocketListener } from "bun";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { O_CLOEXEC, O_NONBLOCK, POLLIN, POLLRDHUP } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { bytesReadable, close } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pollOne } from "../../ffi/poll.ts";
import { recv, send } from "../../ffi/socket.ts";
import { takeDescriptor } from "../../src/net/session.ts";
import { flagsOf } from "../ffi/descriptors.ts";
import { pseudoRandom } from "../support/images.ts";
import { bounded, command, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** Long enough for an event that must not come to come. */
const QUIET = 100;

describe.each(["unix", "tcp"] as const)("a %s connection", (kind) => {
  let folder: ReturnType<typeof tempFolder>;
  let listener: TCPSocketListener | UnixSocketListener<undefined>;
  let peer: Socket;
  let fd = -1;
  /** What the peer has noticed since the handover. */
  let noticed: string[];
  let received: Buffer;

  beforeEach(async () => {
    folder = tempFolder();
    const accepted = Promise.withResolvers<BunSocket>();
    const socket = {
      open(socket: BunSocket) {
        socket.pause();
        // As a session does: not from within a callback.
        setImmediate(() => accepted.resolve(socket));
      },
      data() {},
    };
    const path = folder.file("socket");
    listener =
      kind === "unix"
        ? Bun.listen({ unix: path, socket: socket as never })
        : Bun.listen({ hostname: "127.0.0.1", port: 0, socket: socket as never });
    const where =
      kind === "unix"
        ? { path }
        : { host: "127.0.0.1", port: (listener as TCPSocketListener).port };
    peer = connect({ ...where, allowHalfOpen: true });
    received = Buffer.alloc(0);
    peer.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
    });
    // Its own array: the peer of the test before may still have to say that it is closed.
    const events: string[] = [];
    for (const event of ["end", "error", "close"]) peer.on(event, () => events.push(event));
    noticed = events;
    fd = takeDescriptor(await bounded(accepted.promise, "a connection"));
  });

  afterEach(() => {
    peer.destroy();
    if (fd >= 0) close(fd);
    listener.stop(true);
    folder[Symbol.dispose]();
  });

  test("goes on unnoticed by the peer", async () => {
    await Bun.sleep(QUIET);
    expect(noticed).toEqual([]);
    expect(peer.readyState).toBe("open");
  });

  test("is left with a descriptor that does not block and that no child inherits", () => {
    expect(flagsOf(fd) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
    expect(recv(fd, new Memory(1).at(0), 1)).toBe(WOULD_BLOCK);
  });

  test("carries data from the descriptor to the peer", async () => {
    const memory = new Memory(Buffer.from("from the stream thread"));
    expect(send(fd, memory.at(0), memory.length)).toBe(memory.length);
    await eventually(() => received.length >= memory.length, "data");
    expect(received.toString()).toBe("from the stream thread");
    expect(noticed).toEqual([]);
  });

  test("carries data from the peer to the descriptor, all of it", async () => {
    const bytes = pseudoRandom(100_000);
    peer.write(bytes);
    const memory = new Memory(bytes.length);
    let total = 0;
    await eventually(() => {
      const n = recv(fd, memory.at(total), memory.length - total);
      if (n > 0) total += n;
      return total === bytes.length;
    }, "all data");
    expect(Buffer.compare(memory.bytes, bytes)).toBe(0);
    expect(recv(fd, memory.at(0), 1)).toBe(WOULD_BLOCK);
  });

  test("shows the descriptor that the peer has finished, and still takes an answer", async () => {
    peer.end("last words");
    const hasEnded = () => (pollOne(fd, POLLIN | POLLRDHUP) & POLLRDHUP) !== 0;
    await eventually(hasEnded, "its end");
    const memory = new Memory(64);
    expect(bytesReadable(fd)).toBe(10);
    expect(recv(fd, memory.at(0), 64)).toBe(10);
    expect(recv(fd, memory.at(0), 64)).toBe(0);
    expect(send(fd, memory.at(0), 10)).toBe(10);
    await eventually(() => received.length === 10, "the answer");
    expect(received.toString()).toBe("last words");
  });

  test("ends for the peer when the descriptor is closed, after all data and with no error", async () => {
    const memory = new Memory(Buffer.from("goodbye"));
    send(fd, memory.at(0), memory.length);
    close(fd);
    fd = -1;
    await eventually(() => noticed.length > 0, "the end");
    await Bun.sleep(QUIET);
    expect(noticed).toEqual(["end"]);
    expect(received.toString()).toBe("goodbye");
  });

  test("outlives the listener", async () => {
    listener.stop(true);
    await Bun.sleep(QUIET);
    expect(noticed).toEqual([]);
    const memory = new Memory(Buffer.from("still here"));
    expect(send(fd, memory.at(0), memory.length)).toBe(10);
    await eventually(() => received.length === 10, "data");
  });
});

test("a connection stays as it is when there is no descriptor to be had", async () => {
  const script = join(import.meta.dir, "no-descriptors.child.ts");
  // In a process of its own, which may not open many files.
  const limited = ["sh", "-c", 'ulimit -n 64; exec "$0" "$@"', process.execPath, script];
  expect(JSON.parse(await command(limited))).toEqual({ code: "EMFILE", echoed: "hello" });
});
