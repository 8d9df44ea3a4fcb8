import { describe as suite, expect, test } from "bun:test";
import { fstatSync, writeFileSync } from "node:fs";
import { AF_UNIX, O_RDONLY, O_RDWR, SOCK_CLOEXEC, SOCK_DGRAM } from "../../../ffi/constants.ts";
import { open, seekBy } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { mkfifo } from "../../../ffi/pipe.ts";
import { describe, inheritDescriptor } from "../../../src/endpoint/opening/descriptor.ts";
import { openFile } from "../../../src/endpoint/opening/open.ts";
import { type Direction, UnusableError } from "../../../src/endpoint/spec.ts";
import { Descriptors, thrownBy } from "../../ffi/descriptors.ts";
import { ANY_PORT, listening } from "../../support/sockets.ts";
import { tempFolder } from "../../support/temp.ts";

const describeFd = (fd: number, direction: Direction) =>
  describe("it", fd, fstatSync(fd), direction);

suite("describe", () => {
  test("tells how much of a file is left to read", () => {
    using folder = tempFolder();
    using fds = new Descriptors();
    writeFileSync(folder.file("disk"), Buffer.alloc(1000));
    const fd = fds.keep(open(folder.file("disk"), O_RDONLY));
    expect(describeFd(fd, "read")).toEqual({
      handle: { kind: "file", name: "it", fd },
      length: 1000n,
    });
    seekBy(fd, 300);
    expect(describeFd(fd, "read").length).toBe(700n);
    expect(seekBy(fd, 0)).toBe(300);
    seekBy(fd, 5000);
    expect(describeFd(fd, "read").length).toBe(0n);
  });

  test("knows no length of what is written, nor of what has none", () => {
    using folder = tempFolder();
    using fds = new Descriptors();
    writeFileSync(folder.file("disk"), Buffer.alloc(1000));
    const file = fds.keep(open(folder.file("disk"), O_RDWR));
    expect(describeFd(file, "write").length).toBeUndefined();
    const device = fds.keep(open("/dev/zero", O_RDONLY));
    expect(describeFd(device, "read")).toEqual({
      handle: { kind: "file", name: "it", fd: device },
      length: undefined,
    });
    const pipe = fds.pipe();
    expect(describeFd(pipe.read, "read")).toEqual({
      handle: { kind: "pipe", name: "it", fd: pipe.read },
    });
    const [socket] = fds.socketpair();
    expect(describeFd(socket, "read")).toEqual({
      handle: { kind: "socket", name: "it", fd: socket },
    });
  });

  test("refuses what is open the other way only", () => {
    using fds = new Descriptors();
    const pipe = fds.pipe();
    const wrong = thrownBy(() => describeFd(pipe.write, "read")) as UnusableError;
    expect(wrong).toBeInstanceOf(UnusableError);
    expect([wrong.message, wrong.hint]).toEqual([
      "it is open for writing only",
      "open it for reading",
    ]);
    expect(() => describeFd(pipe.read, "write")).toThrow("it is open for reading only");
    const both = fds.keep(open("/dev/null", O_RDWR));
    for (const direction of ["read", "write"] as const) {
      expect(describeFd(both, direction).handle.kind).toBe("file");
    }
  });

  test("refuses a pipe that is open both ways, whose other end is never noticed", () => {
    using folder = tempFolder();
    using fds = new Descriptors();
    mkfifo(folder.file("fifo"), 0o600);
    const fd = fds.keep(open(folder.file("fifo"), O_RDWR));
    expect(() => describeFd(fd, "write")).toThrow("it is open for reading, too");
    expect(() => describeFd(fd, "read")).toThrow("it is open for writing, too");
  });

  test("takes a pipe and a socket of which a library's caller has both ends", () => {
    using fds = new Descriptors();
    const pipe = fds.pipe();
    expect(describeFd(pipe.write, "write").handle.kind).toBe("pipe");
    expect(describeFd(fds.socketpair()[0], "write").handle.kind).toBe("socket");
  });

  test.each(["read", "write"] as const)(
    "refuses sockets that carry no stream (%s)",
    (direction) => {
      using fds = new Descriptors();
      const messages = fds.keep(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      expect(() => describeFd(messages, direction)).toThrow("it is a socket for messages");
      using listener = listening(ANY_PORT);
      expect(() => describeFd(listener.fd, direction)).toThrow("it is a socket that listens");
    },
  );

  test("refuses a folder", () => {
    using fds = new Descriptors();
    const fd = fds.keep(open("/", O_RDONLY));
    expect(thrownBy(() => describeFd(fd, "read"))).toMatchObject({
      name: "UnusableError",
      message: "nothing can be read from it",
    });
  });
});

test("a descriptor that is not open tells how to open it for its direction", () => {
  const hintFor = (direction: Direction) =>
    thrownBy(() => inheritDescriptor("fd:777", 777, direction, undefined)) as UnusableError;
  expect(hintFor("read").message).toBe("descriptor 777 is not open");
  expect(hintFor("read").hint).toEndWith("777< FILE");
  expect(hintFor("write").hint).toContain("777> FILE");
});

suite("openFile", () => {
  test("opens for its direction, and knows the length of what is read", () => {
    using folder = tempFolder();
    using fds = new Descriptors();
    writeFileSync(folder.file("disk"), Buffer.alloc(1234));
    const source = openFile(folder.file("disk"), "read", undefined);
    const sink = openFile("/dev/null", "write", 100n);
    expect([source.length, source.hasExitStatus, sink.length]).toEqual([1234n, false, undefined]);
    for (const [{ handle }, refused] of [
      [source, "write"],
      [sink, "read"],
    ] as const) {
      if (handle.kind === "fifo") throw new Error("no FIFO");
      const fd = fds.keep(handle.fd);
      expect(() => describeFd(fd, refused)).toThrow(UnusableError);
    }
  });

  test("throws for what is not there", () => {
    using folder = tempFolder();
    expect(thrownBy(() => openFile(folder.file("nothing"), "read", undefined))).toMatchObject({
      code: "ENOENT",
    });
  });
});
