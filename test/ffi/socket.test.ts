import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { lstatSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AF_INET,
  AF_UNIX,
  ERRNO,
  IPPROTO_TCP,
  MSG_MORE,
  MSG_PEEK,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  POLLIN,
  POLLOUT,
  SO_KEEPALIVE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_USER_TIMEOUT,
} from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { bytesReadable } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { pollOne } from "../../ffi/poll.ts";
import {
  connect,
  growSendBuffer,
  internetAddress,
  isStream,
  isUnix,
  isListening,
  listen,
  noticeDeadPeer,
  recv,
  send,
  shutdownWrite,
  socketError,
  unixAddress,
} from "../../ffi/socket.ts";
import { command, eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { Descriptors, flagsOf, readAll, thrownBy } from "./descriptors.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** Memory with the letters of `text`. */
function letters(text: string): Memory {
  return new Memory(new TextEncoder().encode(text));
}

// tcp(7), which the program has no use for
const TCP_NODELAY = 1;
const TCP_INFO = 11;
/** Where `struct tcp_info` (linux/tcp.h) has `tcpi_data_segs_out`. */
const DATA_SEGS_OUT = 156;

function packetsSent(fd: number): number {
  const info = new Memory(256);
  const length = new Memory(Uint8Array.of(0, 1, 0, 0));
  expect(libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.at(0), length.at(0))).toBe(0);
  return info.view.getUint32(DATA_SEGS_OUT, true);
}

describe("socketpair", () => {
  test("connects two sockets that do not block and that no child inherits", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    expect(flagsOf(one)).toBe(O_RDWR | O_NONBLOCK | O_CLOEXEC);
    expect(flagsOf(other)).toBe(O_RDWR | O_NONBLOCK | O_CLOEXEC);
    const [there, back] = [letters("there"), letters("back")];
    expect(send(one, there.at(0), 5)).toBe(5);
    expect(send(other, back.at(0), 4)).toBe(4);
    expect(readAll(other).toString()).toBe("there");
    expect(readAll(one).toString()).toBe("back");
  });
});

describe("recv", () => {
  test("takes no more than it is asked for, and puts it where it is told", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    send(one, letters("abcdef").at(0), 6);
    const memory = new Memory(8);
    expect(recv(other, memory.at(1), 4)).toBe(4);
    expect(Buffer.from(memory.bytes).toString("latin1")).toBe("\0abcd\0\0\0");
    expect(bytesReadable(other)).toBe(2);
  });

  test("with MSG_PEEK leaves the bytes where they are", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    send(one, letters("abcdef").at(0), 6);
    const memory = new Memory(4);
    expect(recv(other, memory.at(0), 4, MSG_PEEK)).toBe(4);
    expect(Buffer.from(memory.bytes).toString("latin1")).toBe("abcd");
    expect(readAll(other).toString()).toBe("abcdef");
  });

  test("would block when nothing is there", () => {
    using descriptors = new Descriptors();
    const [one] = descriptors.socketpair();
    expect(recv(one, new Memory(1).at(0), 1)).toBe(WOULD_BLOCK);
  });

  test("is 0 when the peer has closed", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    descriptors.close(other);
    expect(recv(one, new Memory(1).at(0), 1)).toBe(0);
  });

  test("throws ECONNRESET when the peer has closed without reading", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    send(one, letters("unread").at(0), 6);
    descriptors.close(other);
    expect(thrownBy(() => recv(one, new Memory(1).at(0), 1))).toMatchObject({
      syscall: "recv",
      code: "ECONNRESET",
    });
  });
});

describe("send", () => {
  test("sends a part, then would block", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    const memory = new Memory(8 * 1024 * 1024);
    let sent = 0;
    let n = send(one, memory.at(0), memory.length);
    expect(n).toBeLessThan(memory.length);
    for (; n >= 0; n = send(one, memory.at(0), memory.length)) sent += n;
    expect(n).toBe(WOULD_BLOCK);
    expect(readAll(other).length).toBe(sent);
  });

  test("throws EPIPE when the peer is gone, and the process lives", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    descriptors.close(other);
    expect(thrownBy(() => send(one, letters("a").at(0), 1))).toMatchObject({
      syscall: "send",
      code: "EPIPE",
    });
  });
});

describe("send with MSG_MORE", () => {
  test("puts what follows at once into the same packet", async () => {
    using descriptors = new Descriptors();
    let received = "";
    using server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (_, bytes) => void (received += bytes.toString("latin1")) },
    });
    const address = internetAddress(Uint8Array.of(127, 0, 0, 1), server.port);
    const fd = descriptors.keep(connect(address, "the server"));
    await eventually(() => pollOne(fd, POLLOUT) !== 0, "a connection");
    // Otherwise the kernel puts small packets together without being told (Nagle).
    const on = new Memory(Uint8Array.of(1, 0, 0, 0));
    expect(libc.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on.at(0), 4)).toBe(0);
    const packets = async (flags: number) => {
      const [before, start] = [packetsSent(fd), received.length];
      expect(send(fd, letters("header,").at(0), 7, flags)).toBe(7);
      if (flags === 0) await eventually(() => received.length === start + 7, "the header");
      expect(send(fd, letters("payload;").at(0), 8)).toBe(8);
      await eventually(() => received.length === start + 15, "the payload");
      return packetsSent(fd) - before;
    };
    expect(await packets(0)).toBe(2);
    // Nothing is held back for longer than 200 ms, which a loaded machine may need once.
    const joined = [await packets(MSG_MORE), await packets(MSG_MORE), await packets(MSG_MORE)];
    expect(joined).toContain(1);
    expect(received).toBe("header,payload;".repeat(4));
  });

  test("loses nothing on a Unix socket", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    send(one, letters("header").at(0), 6, MSG_MORE);
    expect(readAll(other).toString()).toBe("header");
  });
});

describe("listen", () => {
  test("makes a socket that takes connections, that no child inherits, and its file", async () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const path = folder.file("s");
    const fd = descriptors.keep(listen(unixAddress(path), 5, path));
    expect(isListening(fd)).toBeTrue();
    expect(flagsOf(fd)).toBe(O_RDWR | O_NONBLOCK | O_CLOEXEC);
    expect(lstatSync(path).isSocket()).toBeTrue();
    descriptors.keep(connect(unixAddress(path), path));
    expect(pollOne(fd, POLLIN)).not.toBe(0);
  });

  test("fails where anything is, which stays, and leaves no descriptor", () => {
    using folder = tempFolder();
    const path = folder.file("s");
    writeFileSync(path, "precious");
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 10; i++) {
      expect(thrownBy(() => listen(unixAddress(path), 5, path))).toMatchObject({
        code: "EADDRINUSE",
        message: `bind ${path}: Address already in use`,
      });
    }
    expect(readdirSync("/proc/self/fd").length).toBe(before);
    expect(readFileSync(path, "latin1")).toBe("precious");
  });
});

describe("growSendBuffer", () => {
  test("makes room for more that the peer has not taken", () => {
    using descriptors = new Descriptors();
    const taken = (length: number) => {
      const [one, other] = descriptors.socketpair();
      growSendBuffer(one, length);
      const piece = new Memory(4096);
      let total = 0;
      for (let n = 0; n >= 0; n = send(one, piece.at(0), piece.length)) total += n;
      expect(readAll(other).length).toBe(total);
      return total;
    };
    expect(taken(128 * 1024)).toBeGreaterThan(taken(16 * 1024));
  });

  test("is content with what the kernel grants", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    growSendBuffer(one, 2 ** 31 - 1);
    send(one, letters("still").at(0), 5);
    expect(readAll(other).toString()).toBe("still");
  });

  test("throws for what is no socket", () => {
    using descriptors = new Descriptors();
    expect(thrownBy(() => growSendBuffer(descriptors.pipe().write, 1))).toMatchObject({
      syscall: "setsockopt",
      code: "ENOTSOCK",
    });
  });
});

describe("socketError", () => {
  test("is told once, of what a peer has closed and not read", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    expect(socketError(one)).toBe(0);
    send(one, letters("unread").at(0), 6);
    expect(socketError(one)).toBe(0);
    descriptors.close(other);
    expect([socketError(one), socketError(one)]).toEqual([ERRNO.ECONNRESET, 0]);
  });
});

test("a socket's kind is told", () => {
  using descriptors = new Descriptors();
  const [local] = descriptors.socketpair();
  const internet = descriptors.keep(libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const datagrams = descriptors.keep(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  expect([local, internet, datagrams].map(isUnix)).toEqual([true, false, true]);
  expect([local, internet, datagrams].map(isStream)).toEqual([true, true, false]);
});

describe("shutdownWrite", () => {
  test("ends one direction and leaves the other open", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    send(one, letters("last").at(0), 4);
    shutdownWrite(one);
    expect(readAll(other).toString()).toBe("last");
    expect(recv(other, new Memory(1).at(0), 1)).toBe(0);
    expect(send(other, letters("answer").at(0), 6)).toBe(6);
    expect(readAll(one).toString()).toBe("answer");
    expect(thrownBy(() => send(one, letters("a").at(0), 1))).toMatchObject({ code: "EPIPE" });
  });

  test("throws for what is no socket", () => {
    using descriptors = new Descriptors();
    expect(thrownBy(() => shutdownWrite(descriptors.pipe().write))).toMatchObject({
      syscall: "shutdown",
      code: "ENOTSOCK",
    });
  });
});

test("no call waits, not even on a descriptor that blocks", async () => {
  // In a process of its own: a call that waits would stop the whole of it.
  const output = await command([process.execPath, join(import.meta.dir, "blocking.child.ts")]);
  expect(JSON.parse(output)).toEqual({
    received: WOULD_BLOCK,
    spliced: WOULD_BLOCK,
    partly: true,
    last: WOULD_BLOCK,
    intoFull: WOULD_BLOCK,
    teed: WOULD_BLOCK,
  });
});

describe("noticeDeadPeer", () => {
  /** A TCP option of a socket, as the kernel has it. */
  const optionOf = (fd: number, level: number, name: number) => {
    const [value, length] = [new Memory(4), new Memory(4)];
    length.view.setUint32(0, 4, true);
    expect(libc.getsockopt(fd, level, name, value.at(0), length.at(0))).toBe(0);
    return value.view.getInt32(0, true);
  };

  test.each([
    [30, { user: 30_000, idle: 15, interval: 7 }],
    [2, { user: 2000, idle: 1, interval: 1 }],
    [0.5, { user: 500, idle: 1, interval: 1 }],
  ])("has TCP give up after %d s, idle or not", (seconds, { user, idle, interval }) => {
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    using fds = new Descriptors();
    const fd = fds.keep(connect(internetAddress(Uint8Array.of(127, 0, 0, 1), server.port), "tcp"));
    noticeDeadPeer(fd, seconds);
    const tcp = (name: number) => optionOf(fd, IPPROTO_TCP, name);
    expect(tcp(TCP_USER_TIMEOUT)).toBe(user);
    expect([tcp(TCP_KEEPIDLE), tcp(TCP_KEEPINTVL), tcp(TCP_KEEPCNT)]).toEqual([idle, interval, 2]);
    expect(optionOf(fd, SOL_SOCKET, SO_KEEPALIVE)).toBe(1);
    server.stop(true);
  });

  test("leaves a Unix socket alone", () => {
    using fds = new Descriptors();
    const [near] = fds.socketpair();
    noticeDeadPeer(near, 1);
    expect(optionOf(near, SOL_SOCKET, SO_KEEPALIVE)).toBe(0);
  });
});
