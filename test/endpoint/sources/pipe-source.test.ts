import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { O_NONBLOCK, O_RDONLY, O_WRONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { dup, open } from "../../../ffi/fd.ts";
import { mkfifo, pipe } from "../../../ffi/pipe.ts";
import { EndpointError } from "../../../src/endpoint/error.ts";
import { PipeSource, Probe } from "../../../src/endpoint/sources/pipe-source.ts";
import { Descriptors, flagsOf, readAll, thrownBy, writeAll } from "../../ffi/descriptors.ts";
import { tempFolder } from "../../support/temp.ts";

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

describe("Probe", () => {
  test("tells what is in a pipe, and takes nothing out of it", () => {
    using fds = new Descriptors();
    const ends = fds.pipe();
    const probe = new Probe();
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
    const probe = new Probe();
    probe.look(ends.read);
    expect(readdirSync("/proc/self/fd").length).toBe(before + 2);
    probe.close();
    probe.close();
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});
