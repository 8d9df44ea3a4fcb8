import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { O_NONBLOCK, O_RDONLY } from "../../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../../ffi/errno.ts";
import { bytesReadable, dup, open, seekBy, setNonBlocking } from "../../../ffi/fd.ts";
import { Memory } from "../../../ffi/memory.ts";
import { EndpointError } from "../../../src/endpoint/error.ts";
import { RelayedSource } from "../../../src/endpoint/sources/relayed-source.ts";
import { Descriptors, flagsOf, readAll, thrownBy, writeAll } from "../../ffi/descriptors.ts";
import { pseudoRandom } from "../../support/images.ts";
import { tempFolder } from "../../support/temp.ts";

/** Takes all that a source gives without waiting. @returns it, and what the last `fill` said */
function drain(source: RelayedSource): { bytes: Buffer; last: number } {
  const parts: Buffer[] = [];
  for (;;) {
    const n = source.fill();
    if (n <= 0) return { bytes: Buffer.concat(parts), last: n };
    expect(bytesReadable(source.pipe)).toBe(n);
    parts.push(readAll(source.pipe));
  }
}

describe("a socket", () => {
  test.each([true, false])(
    "that blocks (%p) is read without, and is as before afterwards",
    (blocks) => {
      using fds = new Descriptors();
      const [near, far] = fds.socketpair();
      setNonBlocking(far, !blocks);
      const source = new RelayedSource("a socket", dup(far), true);
      expect(source.open()).toBeTrue();
      expect(flagsOf(far) & O_NONBLOCK).toBe(O_NONBLOCK);
      expect(source.fill()).toBe(WOULD_BLOCK);
      writeAll(near, Buffer.from("abc"));
      expect(source.fill()).toBe(3);
      writeAll(near, Buffer.from("de"));
      expect(source.fill()).toBe(5);
      expect(source.fill()).toBe(5);
      expect(readAll(source.pipe).toString()).toBe("abcde");
      expect(source.fill()).toBe(WOULD_BLOCK);
      source.close();
      expect(flagsOf(far) & O_NONBLOCK).toBe(blocks ? 0 : O_NONBLOCK);
    },
  );

  test("that is reset fails for good, after all that came before", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const source = new RelayedSource("a socket", dup(far), true);
    source.open();
    writeAll(near, Buffer.from("abc"));
    expect(source.fill()).toBe(3);
    // What its peer has not taken when it closes makes it a reset.
    writeAll(far, Buffer.from("x"));
    fds.close(near);
    for (let i = 0; i < 3; i++) expect(source.fill()).toBe(3);
    expect(readAll(source.pipe).toString()).toBe("abc");
    for (let i = 0; i < 3; i++) {
      expect(thrownBy(() => source.fill())).toMatchObject({ cause: { code: "ECONNRESET" } });
    }
    source.close();
  });

  test("ends with its peer, after all that came before", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const source = new RelayedSource("a socket", dup(far), true);
    source.open();
    writeAll(near, Buffer.from("abc"));
    fds.close(near);
    // The end is behind what is still in the pipe.
    for (let i = 0; i < 3; i++) expect(source.fill()).toBe(3);
    expect(readAll(source.pipe).toString()).toBe("abc");
    expect(source.fill()).toBe(0);
    source.close();
  });

  test("whose peer has broken the connection has failed for good", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const source = new RelayedSource("a socket", dup(far), true);
    source.open();
    writeAll(far, Buffer.from("unread"));
    fds.close(near);
    const error = thrownBy(() => source.fill());
    expect(error).toBeInstanceOf(EndpointError);
    expect((error as EndpointError).cause.code).toBe("ECONNRESET");
    source.close();
  });

  test("is let go of, and its pipe with it", () => {
    using fds = new Descriptors();
    const [near, far] = fds.socketpair();
    const opened = new RelayedSource("a socket", dup(far), true);
    opened.open();
    const closed = new RelayedSource("a socket", dup(far), true);
    fds.close(far);
    opened.close();
    expect([opened.fd, opened.pipe]).toEqual([-1, -1]);
    closed.close();
    opened.close();
    expect(thrownBy(() => writeAll(near, Buffer.from("x")))).toMatchObject({ code: "EPIPE" });
  });
});

describe("a file", () => {
  test.each([0, 1, 65536, 3_000_000])("of %d bytes is read whole", (size) => {
    using folder = tempFolder();
    const bytes = pseudoRandom(size);
    writeFileSync(folder.file("disk"), bytes);
    const source = new RelayedSource("a file", open(folder.file("disk"), O_RDONLY), false);
    source.open();
    const { bytes: got, last } = drain(source);
    expect(got.equals(bytes)).toBeTrue();
    expect(last).toBe(0);
    source.close();
  });

  test("is read from where it stands", () => {
    using folder = tempFolder();
    const bytes = pseudoRandom(100_000);
    writeFileSync(folder.file("disk"), bytes);
    const fd = open(folder.file("disk"), O_RDONLY);
    seekBy(fd, 12_345);
    const source = new RelayedSource("a file", fd, false);
    source.open();
    expect(drain(source).bytes.equals(bytes.subarray(12_345))).toBeTrue();
    source.close();
  });

  test("that is a folder has failed for good", () => {
    const source = new RelayedSource("a folder", open("/", O_RDONLY), false);
    source.open();
    expect(() => source.fill()).toThrow(EndpointError);
    source.close();
  });
});

describe("what cannot be spliced from", () => {
  test("is at its end at once when there is nothing", () => {
    const source = new RelayedSource("/dev/null", open("/dev/null", O_RDONLY), false);
    source.open();
    expect(source.fill()).toBe(0);
    expect(source.fill()).toBe(0);
    source.close();
  });

  test("is copied, and taken again only when all of it has gone", () => {
    const memory = new Memory(pseudoRandom(1_000_000));
    const fd = open("/proc/self/mem", O_RDONLY);
    seekBy(fd, Number(memory.at(0)));
    const source = new RelayedSource("memory", fd, false);
    source.open();
    const parts: Buffer[] = [];
    for (let done = 0; done < memory.length;) {
      const n = source.fill();
      expect(n).toBeGreaterThan(0);
      expect(source.fill()).toBe(n);
      parts.push(readAll(source.pipe));
      done += n;
    }
    const got = Buffer.concat(parts).subarray(0, memory.length);
    expect(got.equals(memory.bytes)).toBeTrue();
    source.close();
  });
});
