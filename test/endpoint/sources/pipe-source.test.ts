import { describe, expect, test } from "bun:test";
import { readdirSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { O_NONBLOCK, O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { dup, open } from "../../../ffi/fd.ts";
import { growPipe, mkfifo, pipe, pipeSize } from "../../../ffi/pipe.ts";
import { EndpointError } from "../../../src/endpoint/error.ts";
import { FifoSource, PipeSource, WriterProbe } from "../../../src/endpoint/sources/pipe-source.ts";
import { Descriptors, flagsOf, readAll, thrownBy, writeAll } from "../../ffi/descriptors.ts";
import { tempFolder } from "../../support/temp.ts";

/** A source that has been asked once, with nobody there, and what opens its other end. */
function waiting(): Disposable & {
  source: FifoSource;
  path: string;
  fds: Descriptors;
  writer(): number;
} {
  const folder = tempFolder();
  const fds = new Descriptors();
  const path = folder.file("fifo");
  mkfifo(path, 0o600);
  const source = new FifoSource(path);
  expect(source.open()).toBeFalse();
  expect(source.fd).toBe(-1);
  return {
    source,
    path,
    fds,
    writer: () => fds.keep(open(path, O_WRONLY | O_NONBLOCK)),
    [Symbol.dispose]() {
      source.close();
      fds[Symbol.dispose]();
      folder[Symbol.dispose]();
    },
  };
}

describe("PipeSource", () => {
  test("reads without blocking, and leaves those who share the pipe as they were", () => {
    using fds = new Descriptors();
    const ends = pipe();
    fds.keep(ends.write);
    const shared = fds.keep(dup(ends.read));
    const source = new PipeSource("standard input", ends.read);
    expect(source.open()).toBeTrue();
    expect(flagsOf(source.fd) & O_NONBLOCK).toBe(O_NONBLOCK);
    expect(flagsOf(shared) & O_NONBLOCK).toBe(0);
    expect(flagsOf(ends.write) & O_NONBLOCK).toBe(0);
    expect(source.fill()).toBe(WOULD_BLOCK);
    writeAll(ends.write, Buffer.from("abc"));
    expect(source.fill()).toBe(3);
    expect(readAll(source.pipe).toString()).toBe("abc");
    source.close();
    expect(flagsOf(shared) & O_NONBLOCK).toBe(0);
  });

  test("is at its end when the writer has gone and all is read", () => {
    using fds = new Descriptors();
    const ends = pipe();
    fds.keep(ends.write);
    const source = new PipeSource("a pipe", ends.read);
    writeAll(ends.write, Buffer.from("abc"));
    fds.close(ends.write);
    source.open();
    expect(source.fill()).toBe(3);
    readAll(source.pipe);
    expect(source.fill()).toBe(0);
    source.close();
  });

  test("sees the end of a FIFO whose writer left before it was opened", () => {
    using folder = tempFolder();
    using fds = new Descriptors();
    mkfifo(folder.file("fifo"), 0o600);
    const given = open(folder.file("fifo"), O_RDONLY | O_NONBLOCK);
    fds.close(fds.keep(open(folder.file("fifo"), O_WRONLY | O_NONBLOCK)));
    const source = new PipeSource("fd:3", given);
    expect(source.open()).toBeTrue();
    expect(source.fill()).toBe(0);
    source.close();
  });

  test("owns what it was given, whether it was opened or not", () => {
    for (const opens of [true, false]) {
      using fds = new Descriptors();
      const ends = pipe(O_NONBLOCK);
      fds.keep(ends.write);
      const source = new PipeSource("a pipe", ends.read);
      if (opens) source.open();
      source.close();
      expect(thrownBy(() => writeAll(ends.write, Buffer.from("x")))).toMatchObject({
        code: "EPIPE",
      });
      expect(source.fd).toBe(-1);
    }
  });

  test("that cannot be opened has failed for good", () => {
    const source = new PipeSource("fd:9", 2 ** 30);
    expect(() => source.open()).toThrow(EndpointError);
  });
});

describe("WriterProbe", () => {
  test("tells what is in a pipe, and takes nothing out of it", () => {
    using fds = new Descriptors();
    const ends = fds.pipe();
    const probe = new WriterProbe();
    expect(probe.look(ends.read)).toBe(WOULD_BLOCK);
    writeAll(ends.write, Buffer.from("abc"));
    // More often than the probe's own pipe would have room for.
    for (let i = 0; i < 100; i++) expect(probe.look(ends.read)).toBe(1);
    expect(readAll(ends.read).toString()).toBe("abc");
    expect(probe.look(ends.read)).toBe(WOULD_BLOCK);
    fds.close(ends.write);
    expect(probe.look(ends.read)).toBe(0);
    probe.close();
  });

  test("keeps no descriptor when it is closed", () => {
    using fds = new Descriptors();
    const ends = fds.pipe();
    const before = readdirSync("/proc/self/fd").length;
    const probe = new WriterProbe();
    probe.look(ends.read);
    expect(readdirSync("/proc/self/fd").length).toBe(before + 2);
    probe.close();
    probe.close();
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});

describe("FifoSource", () => {
  test("does not open before a writer, who finds a reader at once", () => {
    using fifo = waiting();
    const { source } = fifo;
    expect(source.open()).toBeFalse();
    const writer = fifo.writer();
    expect(source.open()).toBeTrue();
    expect(source.fill()).toBe(WOULD_BLOCK);
    writeAll(writer, Buffer.from("abc"));
    expect(source.fill()).toBe(3);
    expect(readAll(source.pipe).toString()).toBe("abc");
    expect(source.fill()).toBe(WOULD_BLOCK);
    fifo.fds.close(writer);
    expect(source.fill()).toBe(0);
    expect(source.fill()).toBe(0);
  });

  test("opens for a writer that has left its bytes and gone", () => {
    using fifo = waiting();
    const writer = fifo.writer();
    writeAll(writer, Buffer.from("abc"));
    fifo.fds.close(writer);
    expect(fifo.source.open()).toBeTrue();
    expect(fifo.source.fill()).toBe(3);
    expect(readAll(fifo.source.pipe).toString()).toBe("abc");
    expect(fifo.source.fill()).toBe(0);
  });

  test("opens for a writer that came and went without a word, and is at its end", () => {
    using fifo = waiting();
    fifo.fds.close(fifo.writer());
    expect(fifo.source.open()).toBeTrue();
    expect(fifo.source.fill()).toBe(0);
  });

  test("does not end while one of several writers is there", () => {
    using fifo = waiting();
    const [one, other] = [fifo.writer(), fifo.writer()];
    expect(fifo.source.open()).toBeTrue();
    fifo.fds.close(one);
    expect(fifo.source.fill()).toBe(WOULD_BLOCK);
    fifo.fds.close(other);
    expect(fifo.source.fill()).toBe(0);
  });

  test("reads without blocking from a pipe that is grown", () => {
    using fifo = waiting();
    fifo.writer();
    fifo.source.open();
    expect(flagsOf(fifo.source.fd) & O_NONBLOCK).toBe(O_NONBLOCK);
    const size = pipeSize(fifo.source.fd);
    expect(growPipe(fifo.source.fd)).toBe(size);
    expect(fifo.source.pipe).toBe(fifo.source.fd);
  });

  test("tells its writer by EPIPE when it is closed, open or not", () => {
    for (const opens of [true, false]) {
      using fifo = waiting();
      const writer = fifo.writer();
      if (opens) expect(fifo.source.open()).toBeTrue();
      fifo.source.close();
      expect(thrownBy(() => writeAll(writer, Buffer.from("x")))).toMatchObject({ code: "EPIPE" });
      expect(fifo.source.fd).toBe(-1);
      fifo.source.close();
    }
  });

  test("fails for good when the path is no FIFO any more, or nothing", () => {
    using folder = tempFolder();
    const path = folder.file("fifo");
    const gone = thrownBy(() => new FifoSource(path).open());
    expect(gone).toBeInstanceOf(EndpointError);
    expect((gone as EndpointError).cause.code).toBe("ENOENT");
    mkfifo(path, 0o600);
    const source = new FifoSource(path);
    unlinkSync(path);
    writeFileSync(path, "precious");
    expect(() => source.open()).toThrow(EndpointError);
    expect(source.fd).toBe(-1);
    expect(statSync(path).size).toBe(8);
    source.close();
  });
});
