/** Where sockets are bound, and datagrams to them. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { closeOnExec, closesOnExec } from "../../ffi/fd.ts";
import {
  abstractAddress,
  addressBytes,
  boundAddress,
  internetAddress,
  isIPv6,
  sendDatagram,
  unixAddress,
} from "../../ffi/socket.ts";
import { ANY_PORT, listening, Mailbox, unheard } from "../support/sockets.ts";
import { tempFolder } from "../support/temp.ts";
import { Descriptors, thrownBy } from "./descriptors.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const abstract = () => abstractAddress(`nbd-streaming-test-${randomUUID()}`);
const LOOPBACK_6 = Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? 1 : 0));

describe("boundAddress", () => {
  test.each(["socket", "a name with spaces & ümlauts", "x"])("tells the path %p", (name) => {
    using folder = tempFolder();
    const path = folder.file(name);
    using socket = listening(unixAddress(path));
    expect(boundAddress(socket.fd)).toEqual({ kind: "unix", path });
  });

  test("tells the longest path", () => {
    using folder = tempFolder();
    const path = `${folder.path}/`.padEnd(107, "x");
    using socket = unheard(unixAddress(path));
    expect(boundAddress(socket.fd)).toEqual({ kind: "unix", path });
  });

  test("tells the port that the kernel has chosen", () => {
    using socket = listening(ANY_PORT);
    expect(boundAddress(socket.fd)).toEqual({
      kind: "tcp",
      host: "127.0.0.1",
      port: expect.any(Number) as never,
    });
    const address = boundAddress(socket.fd);
    expect(address?.kind === "tcp" && address.port).toBeGreaterThan(0);
  });

  test("tells an IPv6 address", () => {
    using socket = listening(internetAddress(LOOPBACK_6, 0));
    expect(boundAddress(socket.fd)).toMatchObject({ kind: "tcp", host: "0:0:0:0:0:0:0:1" });
  });

  test("knows nothing of sockets without a name, and of abstract ones", () => {
    using descriptors = new Descriptors();
    const [one] = descriptors.socketpair();
    expect(boundAddress(one)).toBeUndefined();
    using socket = listening(abstract());
    expect(boundAddress(socket.fd)).toBeUndefined();
  });

  test("throws for what is no socket", () => {
    using descriptors = new Descriptors();
    expect(thrownBy(() => boundAddress(descriptors.pipe().read))).toMatchObject({
      syscall: "getsockname",
      code: "ENOTSOCK",
    });
  });
});

describe("sendDatagram", () => {
  test("reaches a path and an abstract name, as one letter each", () => {
    using folder = tempFolder();
    for (const address of [unixAddress(folder.file("box")), abstract()]) {
      using box = new Mailbox(address);
      sendDatagram(address, Buffer.from("READY=1"));
      sendDatagram(address, Buffer.from("STOPPING=1"));
      expect(box.letters).toEqual(["READY=1", "STOPPING=1"]);
    }
  });

  test("throws where nobody receives, or no datagrams, and leaves no descriptor", () => {
    using folder = tempFolder();
    using listener = listening(unixAddress(folder.file("stream")));
    const letter = Buffer.from("x");
    const free = () => {
      using socket = unheard(abstract());
      return socket.fd;
    };
    const before = free();
    for (const [address, code] of [
      [unixAddress(folder.file("nothing")), "ENOENT"],
      [unixAddress(folder.file("stream")), "EPROTOTYPE"],
      [abstract(), "ECONNREFUSED"],
      [unixAddress(`/${"x".repeat(200)}`), "EINVAL"],
    ] as const) {
      expect(thrownBy(() => sendDatagram(address, letter))).toMatchObject({
        syscall: "connect",
        code,
      });
    }
    expect(free()).toBe(before);
    expect(listener.fd).toBeGreaterThanOrEqual(0);
  });
});

test("closeOnExec keeps a descriptor from children", () => {
  using socket = listening(ANY_PORT);
  const shown = (fd: number) =>
    Bun.spawnSync(["sh", "-c", `[ -e /proc/$$/fd/3 ] && echo there`], {
      stdio: ["ignore", "pipe", "ignore", fd],
    }).stdout.toString();
  // Whoever passes one makes it inheritable.
  expect(shown(socket.fd)).toBe("there\n");
  expect(closesOnExec(socket.fd)).toBeTrue();
  const script = `
    const { closeOnExec, closesOnExec } = await import(process.argv[1]);
    const before = closesOnExec(3);
    closeOnExec(3);
    const child = Bun.spawnSync(["readlink", "/proc/self/fd/3"]);
    console.log(JSON.stringify({ before, after: closesOnExec(3), child: child.stdout.toString() }));
  `;
  const child = Bun.spawnSync(
    [process.execPath, "-e", script, new URL("../../ffi/fd.ts", import.meta.url).pathname],
    { stdio: ["ignore", "pipe", "inherit", socket.fd] },
  );
  expect(JSON.parse(child.stdout.toString())).toEqual({ before: false, after: true, child: "" });
  expect(thrownBy(() => closeOnExec(-1))).toMatchObject({ syscall: "fcntl", code: "EBADF" });
});

describe("addressBytes", () => {
  test.each([
    ["127.0.0.1", "7f000001"],
    ["::", "00".repeat(16)],
    ["::1", "00".repeat(15) + "01"],
    ["2001:db8::8:800:200c:417a", "20010db80000000000080800200c417a"],
    ["::ffff:192.0.2.1", "00000000000000000000ffffc0000201"],
    ["fe80::1%eth0", "fe800000000000000000000000000001"],
  ])("reads %p", (text, hex) => {
    expect(addressBytes(text)?.toHex()).toBe(hex);
    expect(isIPv6(text)).toBe(hex.length === 32);
  });

  test.each(["", "localhost", "127.1", "1.2.3.4.5", "1:2:3", "::1::", "127.0.0.1 "])(
    "takes %p for no address",
    (text) => {
      expect(addressBytes(text)).toBeUndefined();
      expect(isIPv6(text)).toBe(false);
    },
  );
});
