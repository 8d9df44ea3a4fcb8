import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { close, read } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { growPipe, pipe, pipeSize } from "../../ffi/pipe.ts";
import { ZeroPipe } from "../../src/endpoint/zero-pipe.ts";

test("a zero pipe gives zeroes for ever, of any length", () => {
  const zeroes = new ZeroPipe();
  const target = pipe(O_NONBLOCK);
  growPipe(target.write);
  const memory = new Memory(1 << 20);
  let total = 0;
  for (let length = 1; total < 50_000_000; length = (length * 3 + 1) % 3_000_000) {
    const copied = zeroes.copyTo(target.write, length);
    expect(copied).toBeGreaterThan(0);
    expect(copied).toBeLessThanOrEqual(length);
    total += copied;
    for (let left = copied; left > 0;) {
      memory.bytes.fill(0xff);
      const n = read(target.read, memory.at(0), memory.length);
      expect(memory.bytes.subarray(0, n).some((byte) => byte !== 0)).toBeFalse();
      left -= n;
    }
  }
  close(target.read);
  close(target.write);
  zeroes.close();
});

test("a zero pipe fills a pipe and says when it is full", () => {
  const zeroes = new ZeroPipe();
  const target = pipe(O_NONBLOCK);
  let copied = 0;
  for (let n = 0; n !== WOULD_BLOCK; n = zeroes.copyTo(target.write, 1 << 30)) copied += n;
  // More than the pipe takes from write(2): pieces, not pages.
  expect(copied).toBeGreaterThan(pipeSize(target.write));
  close(target.read);
  close(target.write);
  zeroes.close();
});

test("a zero pipe leaves no descriptor open", () => {
  const before = readdirSync("/proc/self/fd").length;
  new ZeroPipe().close();
  expect(readdirSync("/proc/self/fd").length).toBe(before);
});
