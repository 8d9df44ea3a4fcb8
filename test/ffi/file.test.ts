import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, fstatSync, readdirSync, writeFileSync } from "node:fs";
import { ERRNO, O_CLOEXEC, O_RDONLY, O_RDWR } from "../../ffi/constants.ts";
import { open, read } from "../../ffi/fd.ts";
import {
  allocate,
  nextData,
  nextHole,
  openUnnamed,
  pread,
  punchHole,
  pwrite,
  seekTo,
  spliceInto,
  zeroRange,
} from "../../ffi/file.ts";
import { Memory } from "../../ffi/memory.ts";
import { pseudoRandom } from "../support/images.ts";
import { tempFolder } from "../support/temp.ts";
import { Descriptors, fill, flagsOf, thrownBy, writeAll } from "./descriptors.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1 << 20;
const DATA = Buffer.from(pseudoRandom(MiB));

/** A file without a name, and what is done with it. */
class TestFile extends Descriptors {
  readonly #folder = tempFolder();
  readonly fd = this.keep(openUnnamed(this.#folder.path));

  write(at: number | bigint, bytes: Uint8Array): void {
    const memory = new Memory(bytes);
    expect(pwrite(this.fd, memory.at(0), memory.length, at)).toBe(bytes.length);
  }

  read(at: number | bigint, length: number): Buffer<ArrayBuffer> {
    const memory = new Memory(length);
    const n = pread(this.fd, memory.at(0), length, at);
    return Buffer.from(memory.bytes.slice(0, n));
  }

  get stats() {
    return fstatSync(this.fd);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}

describe("openUnnamed", () => {
  test("makes a file that is only ours, and that nothing in the folder leads to", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const before = process.umask(0);
    try {
      const fd = descriptors.keep(openUnnamed(folder.path));
      const { mode, nlink, size } = fstatSync(fd);
      expect({ mode: mode & 0o777, nlink, size }).toEqual({ mode: 0o600, nlink: 0, size: 0 });
      expect(flagsOf(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
      expect(flagsOf(fd) & O_RDWR).toBe(O_RDWR);
    } finally {
      process.umask(before);
    }
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("makes a file that cannot be given a name", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const fd = descriptors.keep(openUnnamed(folder.path));
    const words = ["ln", "-L", `/proc/${process.pid}/fd/${fd}`, folder.file("name")];
    const { success, stderr } = Bun.spawnSync({ cmd: words, env: { ...process.env, LC_ALL: "C" } });
    expect(success).toBe(false);
    expect(stderr.toString()).toMatch(/No such file or directory|Invalid cross-device link/);
    expect(fstatSync(fd).nlink).toBe(0);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("throws ENOENT without a folder, and ENOTDIR for a file", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("x"), "");
    expect(thrownBy(() => openUnnamed(folder.file("y")))).toMatchObject({ errno: ERRNO.ENOENT });
    expect(thrownBy(() => openUnnamed(folder.file("x")))).toMatchObject({ errno: ERRNO.ENOTDIR });
  });
});

describe("pread and pwrite", () => {
  test("go to a position, and leave the file's own where it is", () => {
    using file = new TestFile();
    file.write(5000, DATA.subarray(0, 3000));
    file.write(100, DATA.subarray(0, 200));
    expect(file.stats.size).toBe(8000);
    expect(file.read(5000, 3000)).toEqual(DATA.subarray(0, 3000));
    expect(file.read(100, 200)).toEqual(DATA.subarray(0, 200));
    const first = new Memory(100);
    expect(read(file.fd, first.at(0), 100)).toBe(100);
    expect(first.bytes).toEqual(new Uint8Array(100));
  });

  test("read zeroes in a hole, less at the end, and nothing behind it", () => {
    using file = new TestFile();
    file.write(MiB, DATA.subarray(0, 10));
    expect(file.read(1000, 50)).toEqual(Buffer.alloc(50));
    expect(file.read(MiB + 4, 50)).toEqual(DATA.subarray(4, 10));
    expect(file.read(MiB + 10, 50).length).toBe(0);
    expect(file.read(2n ** 62n, 50).length).toBe(0);
  });

  test("throw EBADF where a file is open for something else", () => {
    using descriptors = new Descriptors();
    const [fd, memory] = [descriptors.keep(open("/dev/null", O_RDONLY)), new Memory(1)];
    expect(thrownBy(() => pwrite(fd, memory.at(0), 1, 0))).toMatchObject({
      syscall: "pwrite",
      errno: ERRNO.EBADF,
    });
    expect(thrownBy(() => pread(-1, memory.at(0), 1, 0))).toMatchObject({ syscall: "pread" });
  });
});

test("seekTo sets the position from which read(2) goes on", () => {
  using file = new TestFile();
  file.write(0, DATA);
  seekTo(file.fd, 12_345);
  const memory = new Memory(100);
  expect(read(file.fd, memory.at(0), 100)).toBe(100);
  expect(Buffer.from(memory.bytes)).toEqual(DATA.subarray(12_345, 12_445));
  expect(thrownBy(() => seekTo(file.fd, -1))).toMatchObject({ errno: ERRNO.EINVAL });
});

describe("holes", () => {
  test("are found, as is the data between them", () => {
    using file = new TestFile();
    expect(nextData(file.fd, 0)).toBeUndefined();
    file.write(4 * MiB, DATA);
    file.write(8 * MiB, DATA);
    expect(nextData(file.fd, 0)).toBe(4 * MiB);
    expect(nextData(file.fd, 4 * MiB + 1)).toBe(4 * MiB + 1);
    expect(nextHole(file.fd, 4 * MiB + 1)).toBe(5 * MiB);
    expect(nextData(file.fd, 5 * MiB)).toBe(8 * MiB);
    expect(nextHole(file.fd, 8 * MiB)).toBe(9 * MiB);
    expect(nextHole(file.fd, 9 * MiB)).toBeUndefined();
    expect(nextData(file.fd, 9 * MiB)).toBeUndefined();
  });

  test("of a file that cannot be asked are an error", () => {
    using descriptors = new Descriptors();
    const { read: end } = descriptors.pipe();
    expect(thrownBy(() => nextData(end, 0))).toMatchObject({ code: "ESPIPE" });
  });

  test("take the place of data, and of its room on the disk, but not of the length", () => {
    using file = new TestFile();
    for (let at = 0; at < 4; at++) file.write(at * MiB, DATA);
    const before = file.stats.blocks;
    punchHole(file.fd, MiB, 3 * MiB);
    expect(file.stats.size).toBe(4 * MiB);
    expect((before - file.stats.blocks) * 512).toBeGreaterThanOrEqual(3 * MiB);
    expect(file.read(0, MiB)).toEqual(DATA);
    expect(file.read(MiB, 3 * MiB)).toEqual(Buffer.alloc(3 * MiB));
    punchHole(file.fd, 1000, 50);
    const punched = Buffer.from(DATA.subarray(0, 2000));
    punched.fill(0, 1000, 1050);
    expect(file.read(0, 2000)).toEqual(punched);
  });
});

test("zeroRange makes zeroes that have room, and allocate leaves what is there", () => {
  using file = new TestFile();
  file.write(0, DATA);
  zeroRange(file.fd, 4096, 8192);
  const zeroed = Buffer.from(DATA);
  zeroed.fill(0, 4096, 3 * 4096);
  expect(file.read(0, MiB)).toEqual(zeroed);
  expect(file.stats.blocks * 512).toBeGreaterThanOrEqual(MiB);
  allocate(file.fd, 0, 4 * MiB);
  expect(file.read(0, 2 * MiB)).toEqual(zeroed);
  expect(file.stats.blocks * 512).toBeGreaterThanOrEqual(4 * MiB);
});

test.each([
  ["punchHole", punchHole],
  ["zeroRange", zeroRange],
  ["allocate", allocate],
])("%s throws what fallocate(2) says", (_, call) => {
  using descriptors = new Descriptors();
  const { write } = descriptors.pipe();
  expect(thrownBy(() => call(write, 0, 4096))).toMatchObject({
    syscall: "fallocate",
    code: "ESPIPE",
  });
});

describe("spliceInto", () => {
  test("moves what a pipe has to a position, and leaves the file's own where it is", () => {
    using file = new TestFile();
    const { read: from, write: to } = file.pipe();
    // The smallest pipe has two pages.
    writeAll(to, DATA.subarray(0, 6000));
    let done = 0;
    while (done < 6000) done += spliceInto(from, file.fd, 3 * MiB + done, 6000 - done);
    expect(file.read(3 * MiB, 6000)).toEqual(DATA.subarray(0, 6000));
    const first = new Memory(10);
    expect(read(file.fd, first.at(0), 10)).toBe(10);
    expect(first.bytes).toEqual(new Uint8Array(10));
  });

  test("moves no more than it is told to", () => {
    using file = new TestFile();
    const { read: from, write: to } = file.pipe();
    const total = fill(to);
    expect(spliceInto(from, file.fd, 0, 5000)).toBeLessThanOrEqual(5000);
    expect(file.stats.size).toBeLessThanOrEqual(5000);
    expect(total).toBeGreaterThan(5000);
  });
});

const FAR = "/dev/shm";
test.skipIf(!existsSync(FAR))(
  "positions that no number has are exact (skipped without /dev/shm)",
  () => {
    using descriptors = new Descriptors();
    const fd = descriptors.keep(openUnnamed(FAR));
    const at = 2n ** 62n + 4097n;
    const memory = new Memory(DATA.subarray(0, 100));
    expect(pwrite(fd, memory.at(0), 100, at)).toBe(100);
    expect(nextData(fd, 0)).toBe(2n ** 62n + 4096n);
    expect(nextHole(fd, at)).toBe(2n ** 62n + 8192n < at + 100n ? 2n ** 62n + 8192n : at + 100n);
    const found = new Memory(100);
    expect(pread(fd, found.at(0), 100, at)).toBe(100);
    expect(found.bytes).toEqual(memory.bytes);
    punchHole(fd, at - 1n, 51);
    expect(pread(fd, found.at(0), 100, at)).toBe(100);
    expect(found.bytes.subarray(0, 50)).toEqual(new Uint8Array(50));
    expect(found.bytes.subarray(50)).toEqual(memory.bytes.subarray(50));
  },
);
