import { expect, test } from "bun:test";
import { constants as fs } from "node:fs";
import { constants as os } from "node:os";
import * as abi from "../../ffi/constants.ts";
import { Descriptors, flagsOf } from "./descriptors.ts";

const OPEN_FLAGS = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_NOCTTY", "O_NONBLOCK"] as const;

test.each(OPEN_FLAGS)("%s has this machine's value", (name) => {
  expect(abi[name]).toBe(fs[name]);
});

test.each(Object.keys(abi.ERRNO))("%s has this machine's value", (name) => {
  const errno: Record<string, number> = abi.ERRNO;
  expect(errno[name]).toBe((os.errno as Record<string, number>)[name] as number);
});

test("the kernel takes O_NONBLOCK and O_CLOEXEC for what they are", () => {
  using descriptors = new Descriptors();
  const ends = descriptors.pipe();
  expect(flagsOf(ends.read)).toBe(abi.O_RDONLY | abi.O_NONBLOCK | abi.O_CLOEXEC);
  expect(flagsOf(ends.write)).toBe(abi.O_WRONLY | abi.O_NONBLOCK | abi.O_CLOEXEC);
});

test("sockets and eventfds share the values of the open flags", () => {
  expect([abi.SOCK_NONBLOCK, abi.EFD_NONBLOCK]).toEqual([abi.O_NONBLOCK, abi.O_NONBLOCK]);
  expect([abi.SOCK_CLOEXEC, abi.EFD_CLOEXEC]).toEqual([abi.O_CLOEXEC, abi.O_CLOEXEC]);
});
