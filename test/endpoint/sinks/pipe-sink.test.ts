import { describe, expect, test } from "bun:test";
import { statSync, writeFileSync } from "node:fs";
import { O_NONBLOCK, O_RDONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { close, open, read } from "../../../ffi/fd.ts";
import { IoVec, Memory } from "../../../ffi/memory.ts";
import { growPipe, mkfifo, pipeSize } from "../../../ffi/pipe.ts";
import { send, socketpair } from "../../../ffi/socket.ts";
import { EndpointError } from "../../../src/endpoint/error.ts";
import { FifoSink } from "../../../src/endpoint/sinks/pipe-sink.ts";
import { tempFolder } from "../../support/temp.ts";

/** A sink that is open, with the reader's end. */
function opened(): Disposable & { sink: FifoSink; reader: number; closeReader(): void } {
  const folder = tempFolder();
  mkfifo(folder.file("fifo"), 0o600);
  const reader = open(folder.file("fifo"), O_RDONLY | O_NONBLOCK);
  const sink = new FifoSink(folder.file("fifo"));
  expect(sink.open()).toBeTrue();
  let readerOpen = true;
  const closeReader = () => {
    if (readerOpen) close(reader);
    readerOpen = false;
  };
  return {
    sink,
    reader,
    closeReader,
    [Symbol.dispose]() {
      sink.close();
      closeReader();
      folder[Symbol.dispose]();
    },
  };
}

function take(fd: number, length: number): Buffer {
  const memory = new Memory(length);
  const n = read(fd, memory.at(0), length);
  return Buffer.from(memory.bytes.subarray(0, Math.max(0, n)));
}

function vectorOf(...parts: string[]): { vector: IoVec; held: Memory[] } {
  const vector = new IoVec(8);
  const held = parts.map((part) => new Memory(Buffer.from(part)));
  for (const memory of held) vector.push(memory.at(0), memory.length);
  return { vector, held };
}

describe("FifoSink", () => {
  test("does not open before there is a reader", () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    const sink = new FifoSink(folder.file("fifo"));
    expect(sink.open()).toBeFalse();
    expect(sink.fd).toBe(-1);
    const reader = open(folder.file("fifo"), O_RDONLY | O_NONBLOCK);
    expect(sink.open()).toBeTrue();
    sink.close();
    close(reader);
  });

  test("fails for good when the path is no FIFO any more", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("file"), "precious");
    const sink = new FifoSink(folder.file("file"));
    expect(() => sink.open()).toThrow(EndpointError);
    expect(() => new FifoSink(folder.file("nothing")).open()).toThrow(EndpointError);
    expect(statSync(folder.file("file")).size).toBe(8);
  });

  test("does not open for a second stream until the first has closed", () => {
    using fifo = opened();
    const second = new FifoSink(fifo.sink.path);
    expect(() => second.open()).toThrow(EndpointError);
    expect(second.fd).toBe(-1);
    fifo.sink.close();
    expect(second.open()).toBeTrue();
    second.close();
  });

  test("grows the pipe", () => {
    using fifo = opened();
    const size = pipeSize(fifo.sink.fd);
    // A user with many pipes is granted less (pipe(7)), but no more than that.
    expect(growPipe(fifo.sink.fd)).toBe(size);
  });

  test("writes from memory, moves from a socket and makes zeroes, in order", () => {
    using fifo = opened();
    const { vector } = vectorOf("abc", "def");
    expect(fifo.sink.writev(vector)).toBe(6);
    const [near, far] = socketpair();
    const payload = new Memory(Buffer.from("ghi"));
    send(near, payload.at(0), 3);
    expect(fifo.sink.splice(far, 10)).toBe(3);
    expect(fifo.sink.unread()).toBe(9);
    // The smallest pipe has room for two pieces.
    expect(take(fifo.reader, 4).toString("latin1")).toBe("abcd");
    expect(take(fifo.reader, 2).toString("latin1")).toBe("ef");
    expect(fifo.sink.zeroes(5)).toBe(5);
    expect(fifo.sink.unread()).toBe(8);
    expect(take(fifo.reader, 100).toString("latin1")).toBe("ghi\0\0\0\0\0");
    expect(fifo.sink.unread()).toBe(0);
    close(near);
    close(far);
  });

  test("says when it would block", () => {
    using fifo = opened();
    while (fifo.sink.zeroes(1 << 24) !== WOULD_BLOCK);
    const { vector } = vectorOf("x");
    expect(fifo.sink.writev(vector)).toBe(WOULD_BLOCK);
    const [near, far] = socketpair();
    expect(fifo.sink.splice(far, 1)).toBe(WOULD_BLOCK);
    close(near);
    close(far);
  });

  test("fails for good when the reader has gone", () => {
    using fifo = opened();
    fifo.closeReader();
    const { vector } = vectorOf("x");
    const [near, far] = socketpair();
    send(near, vector.pointer, 1);
    for (const attempt of [
      () => fifo.sink.writev(vector),
      () => fifo.sink.zeroes(1),
      () => fifo.sink.splice(far, 1),
    ]) {
      let caught: unknown;
      try {
        attempt();
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(EndpointError);
      expect((caught as EndpointError).cause.code).toBe("EPIPE");
    }
    close(near);
    close(far);
  });

  test("does not blame the pipe for the socket's failure", () => {
    using fifo = opened();
    expect(() => fifo.sink.splice(fifo.reader, 1)).not.toThrow(EndpointError);
  });
});
