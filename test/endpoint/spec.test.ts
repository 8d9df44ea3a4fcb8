import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { openEndpoint } from "../../src/endpoint/opening/open.ts";
import {
  endpointText,
  mayKnowLength,
  parseEndpoint,
  UnusableError,
} from "../../src/endpoint/spec.ts";
import { tempFolder } from "../support/temp.ts";

describe("parseTarget", () => {
  test("takes - for the one of the standard descriptors that fits", () => {
    expect(parseEndpoint("-", "read")).toEqual({
      kind: "descriptor",
      name: "standard input",
      fd: 0,
    });
    expect(parseEndpoint("-", "write")).toEqual({
      kind: "descriptor",
      name: "standard output",
      fd: 1,
    });
  });

  test.each([
    "-",
    "disk.fifo",
    "./fd:3",
    "fd:3",
    "fd:0",
    "tcp:host:1",
    "tcp:[::1]:65535",
    "exec:cat x",
  ])("reads %s, and it can be written down again", (text) => {
    for (const direction of ["read", "write"] as const) {
      expect(endpointText(parseEndpoint(text, direction))).toBe(text);
    }
  });

  test.each([
    "fd:",
    "fd:x",
    "fd:-1",
    "fd:1234567890",
    "tcp:",
    "tcp:host",
    "tcp:host:0",
    "tcp:host:65536",
    "tcp:::1:5",
    "exec:",
    "exec: ",
  ])("refuses %p", (text) => {
    expect(() => parseEndpoint(text, "read")).toThrow(UnusableError);
  });

  test("a length can be told only of what may be a file", () => {
    const told = ["-", "fd:3", "disk", "tcp:host:1", "exec:cat"].map((text) =>
      mayKnowLength(parseEndpoint(text, "read")),
    );
    expect(told).toEqual([true, true, true, false, false]);
  });
});

describe("a path to read from", () => {
  const openPath = (path: string) => openEndpoint({ kind: "path", path }, "read", {});

  test("may be a regular file, whose length is known", async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("disk"), Buffer.alloc(777));
    const source = await openPath(folder.file("disk"));
    expect([source.handle.kind, source.length]).toEqual(["file", 777n]);
    if (source.handle.kind !== "fifo") close(source.handle.fd);
  });

  test("may be a FIFO, or nothing, which becomes one", async () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    for (const name of ["fifo", "nothing"]) {
      const source = await openPath(folder.file(name));
      expect(source.handle).toEqual({ kind: "fifo", path: folder.file(name) });
      expect(source.length).toBeUndefined();
      source.remove();
    }
  });

  test("may be a device without a length", async () => {
    const source = await openPath("/dev/zero");
    expect([source.handle.kind, source.length]).toEqual(["file", undefined]);
    if (source.handle.kind !== "fifo") close(source.handle.fd);
  });

  test("is refused when it is a folder, and a file is refused to write to", async () => {
    using folder = tempFolder();
    mkdirSync(folder.file("folder"));
    writeFileSync(folder.file("disk"), "");
    await expect(openPath(folder.file("folder"))).rejects.toThrow("it is a folder");
    const written = openEndpoint({ kind: "path", path: folder.file("disk") }, "write", {});
    await expect(written).rejects.toThrow("it is a regular file");
  });
});
