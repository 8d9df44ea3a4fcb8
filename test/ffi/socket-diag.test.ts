import { describe, expect, test } from "bun:test";
import { fstatSync } from "node:fs";
import { unixPeer } from "../../ffi/socket-diag.ts";
import { Descriptors } from "./descriptors.ts";

const inodeOf = (fd: number) => fstatSync(fd).ino;

describe("unixPeer", () => {
  test("is the other one of a pair, both ways", () => {
    using fds = new Descriptors();
    const [one, other] = fds.socketpair();
    fds.socketpair();
    expect(unixPeer(inodeOf(one))).toBe(inodeOf(other));
    expect(unixPeer(inodeOf(other))).toBe(inodeOf(one));
  });

  test("is nothing where the other one is closed, and of what is no Unix socket", () => {
    using fds = new Descriptors();
    const [one, other] = fds.socketpair();
    fds.close(other);
    expect(unixPeer(inodeOf(one))).toBeUndefined();
    expect(unixPeer(inodeOf(fds.pipe().read))).toBeUndefined();
  });
});
