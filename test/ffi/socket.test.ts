import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { O_CLOEXEC, O_NONBLOCK, O_RDWR } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { bytesReadable } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { recv, send, shutdownWrite } from "../../ffi/socket.ts";
import { command } from "../support/program.ts";
import { Descriptors, flagsOf, readAll, thrownBy } from "./descriptors.ts";

/** Memory with the letters of `text`. */
function letters(text: string): Memory {
  return new Memory(new TextEncoder().encode(text));
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
