import { describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { F_SETPIPE_SZ, O_CLOEXEC, O_WRONLY } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { bytesReadable } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { growPipe, mkfifo, pipe, pipeSize, splice, tee } from "../../ffi/pipe.ts";
import { shutdownWrite } from "../../ffi/socket.ts";
import { pseudoRandom } from "../support/images.ts";
import { tempFolder } from "../support/temp.ts";
import { Descriptors, fill, flagsOf, readAll, thrownBy, writeAll } from "./descriptors.ts";

describe("mkfifo", () => {
  test("makes a FIFO with the mode that it is given", () => {
    using folder = tempFolder();
    mkfifo(folder.file("pipe"), 0o600);
    const stats = statSync(folder.file("pipe"));
    expect(stats.isFIFO()).toBeTrue();
    expect(stats.mode & 0o777).toBe(0o600);
  });

  test("throws EEXIST with the path when something is there", () => {
    using folder = tempFolder();
    const path = folder.file("pipe");
    mkfifo(path, 0o600);
    expect(thrownBy(() => mkfifo(path, 0o600))).toMatchObject({
      syscall: "mkfifo",
      code: "EEXIST",
      message: `mkfifo ${path}: File exists`,
    });
  });
});

describe("pipe", () => {
  test("passes bytes from its writing end to its reading end", () => {
    using descriptors = new Descriptors();
    const ends = descriptors.pipe();
    writeAll(ends.write, Buffer.from("through"));
    expect(readAll(ends.read).toString()).toBe("through");
  });

  test("without flags blocks, and no child inherits it", () => {
    using descriptors = new Descriptors();
    const ends = pipe();
    descriptors.keep(ends.read);
    descriptors.keep(ends.write);
    expect(flagsOf(ends.read)).toBe(O_CLOEXEC);
    expect(flagsOf(ends.write)).toBe(O_WRONLY | O_CLOEXEC);
  });
});

describe("growPipe", () => {
  const limit = Number(readFileSync("/proc/sys/fs/pipe-max-size", "latin1"));

  test("reaches the machine's limit, or does not shrink the pipe", () => {
    using descriptors = new Descriptors();
    const ends = descriptors.pipe();
    const before = pipeSize(ends.read);
    const size = growPipe(ends.write);
    // Where the user's share of pipe pages is used up, the kernel grants less (pipe(7)).
    const granted = libc.fcntl(ends.write, F_SETPIPE_SZ, Math.max(limit, before));
    if (granted >= 0) expect(size).toBe(granted);
    expect(size).toBeGreaterThanOrEqual(before);
    expect([pipeSize(ends.read), pipeSize(ends.write)]).toEqual([size, size]);
    expect(fill(ends.write)).toBe(size);
  });

  test("leaves a pipe alone that cannot grow any more", () => {
    using descriptors = new Descriptors();
    const ends = descriptors.pipe();
    // Only with CAP_SYS_RESOURCE may a pipe go beyond the limit.
    const beyond = libc.fcntl(ends.write, F_SETPIPE_SZ, limit * 2);
    const size = growPipe(ends.write);
    if (beyond >= 0) expect(size).toBe(beyond);
    expect(growPipe(ends.write)).toBe(size);
    expect(pipeSize(ends.read)).toBe(size);
  });

  test("throws for what is no pipe", () => {
    using descriptors = new Descriptors();
    const [socket] = descriptors.socketpair();
    expect(thrownBy(() => growPipe(socket))).toMatchObject({ syscall: "fcntl", code: "EBADF" });
  });
});

describe("splice", () => {
  test("moves exactly the bytes that it is told to from a socket into a pipe", () => {
    using descriptors = new Descriptors();
    const [peer, socket] = descriptors.socketpair();
    const ends = descriptors.pipe();
    const bytes = pseudoRandom(10_000);
    writeAll(peer, bytes);
    let moved = 0;
    while (moved < 7001) {
      const n = splice(socket, ends.write, 7001 - moved);
      expect(n).toBeGreaterThan(0);
      moved += n;
    }
    expect(moved).toBe(7001);
    expect(bytesReadable(socket)).toBe(2999);
    expect(readAll(ends.read)).toEqual(bytes.subarray(0, 7001));
    expect(readAll(socket)).toEqual(bytes.subarray(7001));
  });

  test("would block on an empty socket", () => {
    using descriptors = new Descriptors();
    const [, socket] = descriptors.socketpair();
    expect(splice(socket, descriptors.pipe().write, 10)).toBe(WOULD_BLOCK);
  });

  test("would block on a full pipe, and leaves the socket's bytes where they are", () => {
    using descriptors = new Descriptors();
    const [peer, socket] = descriptors.socketpair();
    const ends = descriptors.pipe();
    fill(ends.write);
    writeAll(peer, Buffer.from("abc"));
    expect(splice(socket, ends.write, 3)).toBe(WOULD_BLOCK);
    expect(readAll(socket).toString()).toBe("abc");
  });

  test("is 0 when the peer has finished", () => {
    using descriptors = new Descriptors();
    const [peer, socket] = descriptors.socketpair();
    const ends = descriptors.pipe();
    writeAll(peer, Buffer.from("abc"));
    shutdownWrite(peer);
    expect(splice(socket, ends.write, 10)).toBe(3);
    expect(splice(socket, ends.write, 10)).toBe(0);
    expect(readAll(ends.read).toString()).toBe("abc");
  });

  test("throws EPIPE when the pipe has no reader, and the process lives", () => {
    using descriptors = new Descriptors();
    const [peer, socket] = descriptors.socketpair();
    const ends = descriptors.pipe();
    descriptors.close(ends.read);
    writeAll(peer, Buffer.from("abc"));
    expect(thrownBy(() => splice(socket, ends.write, 3))).toMatchObject({
      syscall: "splice",
      code: "EPIPE",
    });
  });

  test("moves from pipe to pipe", () => {
    using descriptors = new Descriptors();
    const from = descriptors.pipe();
    const to = descriptors.pipe();
    writeAll(from.write, Buffer.from("abcdef"));
    expect(splice(from.read, to.write, 4)).toBe(4);
    expect(readAll(to.read).toString()).toBe("abcd");
    expect(readAll(from.read).toString()).toBe("ef");
  });
});

describe("tee", () => {
  test("copies from pipe to pipe and consumes nothing", () => {
    using descriptors = new Descriptors();
    const from = descriptors.pipe();
    const to = descriptors.pipe();
    writeAll(from.write, Buffer.from("abcdef"));
    expect(tee(from.read, to.write, 4)).toBe(4);
    expect(tee(from.read, to.write, 100)).toBe(6);
    expect(readAll(to.read).toString()).toBe("abcdabcdef");
    expect(readAll(from.read).toString()).toBe("abcdef");
  });

  test("would block on an empty pipe and on a full one", () => {
    using descriptors = new Descriptors();
    const from = descriptors.pipe();
    const to = descriptors.pipe();
    expect(tee(from.read, to.write, 4)).toBe(WOULD_BLOCK);
    writeAll(from.write, Buffer.from("abc"));
    fill(to.write);
    expect(tee(from.read, to.write, 3)).toBe(WOULD_BLOCK);
    expect(bytesReadable(from.read)).toBe(3);
  });

  test("is 0 when nothing can come any more", () => {
    using descriptors = new Descriptors();
    const from = descriptors.pipe();
    descriptors.close(from.write);
    expect(tee(from.read, descriptors.pipe().write, 4)).toBe(0);
  });

  test("throws EPIPE when the other pipe has no reader", () => {
    using descriptors = new Descriptors();
    const from = descriptors.pipe();
    const to = descriptors.pipe();
    descriptors.close(to.read);
    writeAll(from.write, Buffer.from("abc"));
    expect(thrownBy(() => tee(from.read, to.write, 3))).toMatchObject({
      syscall: "tee",
      code: "EPIPE",
    });
  });
});
