import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { ERRNO } from "../../ffi/constants.ts";
import { checked, interrupted, lastErrno, SyscallError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { command } from "../support/program.ts";
import { Descriptors, thrownBy } from "./descriptors.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** No process has this descriptor. */
const NO_FD = 2 ** 30;

describe("SyscallError", () => {
  test("carries the function, errno, its name, and its text", () => {
    const error = new SyscallError("splice", ERRNO.EPIPE);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      name: "SyscallError",
      syscall: "splice",
      errno: 32,
      code: "EPIPE",
      message: "splice: Broken pipe",
    });
  });

  test("names what the call was about", () => {
    expect(new SyscallError("open", ERRNO.ENOENT, "/no/where").message).toBe(
      "open /no/where: No such file or directory",
    );
  });

  test("calls an errno with two names by the usual one", () => {
    expect(new SyscallError("recv", ERRNO.EAGAIN).code).toBe("EAGAIN");
  });

  test("gives the number of an errno without a name", () => {
    expect(new SyscallError("open", 9999)).toMatchObject({ code: "errno 9999", errno: 9999 });
  });
});

describe("interrupted", () => {
  test("is false after a call that would block", () => {
    using descriptors = new Descriptors();
    const [socket] = descriptors.socketpair();
    const memory = new Memory(1);
    expect(Number(libc.recv(socket, memory.at(0), 1, 0))).toBe(-1);
    expect(interrupted("recv")).toBeFalse();
    expect(lastErrno()).toBe(ERRNO.EAGAIN);
  });

  test("throws every other errno", () => {
    expect(libc.close(NO_FD)).toBe(-1);
    expect(thrownBy(() => interrupted("close", "it"))).toMatchObject({
      syscall: "close",
      code: "EBADF",
      message: "close it: Bad file descriptor",
    });
  });
});

describe("checked", () => {
  test("returns what the call returned", () => {
    using descriptors = new Descriptors();
    const { read } = descriptors.pipe();
    const copy = checked("dup", () => libc.dup(read));
    descriptors.keep(copy);
    expect(copy).toBeGreaterThanOrEqual(0);
    expect(copy).not.toBe(read);
  });

  test("throws when the call fails, after a single attempt", () => {
    let attempts = 0;
    const call = () => {
      attempts++;
      return libc.close(NO_FD);
    };
    expect(thrownBy(() => checked("close", call, "7"))).toMatchObject({
      syscall: "close",
      errno: 9,
      message: "close 7: Bad file descriptor",
    });
    expect(attempts).toBe(1);
  });

  test("throws when the call would block", () => {
    using descriptors = new Descriptors();
    const [socket] = descriptors.socketpair();
    const memory = new Memory(1);
    const call = () => Number(libc.recv(socket, memory.at(0), 1, 0));
    expect(thrownBy(() => checked("recv", call))).toMatchObject({ code: "EAGAIN" });
  });
});

test("a call that a signal interrupts is repeated", async () => {
  const output = await command([process.execPath, join(import.meta.dir, "interrupted.child.ts")]);
  const { bare, attempts, result } = JSON.parse(output);
  expect(bare).toEqual({ result: -1, errno: ERRNO.EINTR, again: true });
  expect(result).toBe(0);
  expect(attempts).toBeGreaterThanOrEqual(2);
});
