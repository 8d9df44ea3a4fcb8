import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { glibcVersion, LIBC_NAMES, libc } from "../../ffi/libc.ts";

test("the C library goes by glibc's name first, then by musl's for this machine", () => {
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  expect(LIBC_NAMES).toEqual(["libc.so.6", `libc.musl-${machine}.so.1`, `ld-musl-${machine}.so.1`]);
});

test("the library that this process runs on is among the names", () => {
  const maps = readFileSync("/proc/self/maps", "latin1");
  expect(LIBC_NAMES.some((name) => maps.includes(`/${name}\n`))).toBeTrue();
});

test("text that the library returns is a JavaScript string", () => {
  expect(libc.strerror(2)).toBe("No such file or directory");
});

test("glibc tells its version, and another library none", () => {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  expect(glibcVersion()).toBe(header.glibcVersionRuntime);
});
