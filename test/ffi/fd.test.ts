import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { constants, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from "../../ffi/constants.ts";
import {
  bytesReadable,
  close,
  cstring,
  deviceSize,
  dup,
  hasNoWriter,
  isLocked,
  isOpenNowhereElse,
  open,
  read,
  replace,
  seekBy,
  setNonBlocking,
  write,
  writev,
} from "../../ffi/fd.ts";
import { join } from "node:path";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { IoVec, Memory } from "../../ffi/memory.ts";
import { pipeSize } from "../../ffi/pipe.ts";
import { pseudoRandom } from "../support/images.ts";
import { tempFolder } from "../support/temp.ts";
import { command } from "../support/program.ts";
import { failing, NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { Descriptors, fill, flagsOf, readAll, thrownBy, writeAll } from "./descriptors.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const CLOSING = join(import.meta.dir, "closing.child.ts");

const { O_APPEND, O_CREAT } = constants;

describe("cstring", () => {
  test("ends with a NUL and is UTF-8", () => {
    expect([...cstring("/ä")]).toEqual([0x2f, 0xc3, 0xa4, 0]);
  });

  test("refuses text that C would cut short", () => {
    expect(thrownBy(() => cstring("a\0b"))).toMatchObject({ code: "EINVAL" });
  });
});

describe("open", () => {
  test("tells the path of a file that does not exist", () => {
    using folder = tempFolder();
    const path = folder.file("nothing");
    expect(thrownBy(() => open(path, O_RDONLY))).toMatchObject({
      name: "SyscallError",
      syscall: "open",
      errno: 2,
      code: "ENOENT",
      message: `open ${path}: No such file or directory`,
    });
  });

  test("gives a descriptor that no child inherits", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    writeFileSync(folder.file("file"), "");
    const fd = descriptors.keep(open(folder.file("file"), O_RDWR));
    expect(flagsOf(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
  });

  test("makes a file with the mode that it is given", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    descriptors.keep(open(folder.file("new"), O_WRONLY | O_CREAT, 0o600));
    expect(statSync(folder.file("new")).mode & 0o777).toBe(0o600);
  });
});

describe("close", () => {
  test("ends the descriptor", () => {
    using descriptors = new Descriptors();
    const { read: readEnd, write: writeEnd } = descriptors.pipe();
    descriptors.close(writeEnd);
    expect(read(readEnd, new Memory(1).at(0), 1)).toBe(0);
  });

  test("throws for what is no descriptor", () => {
    expect(thrownBy(() => close(2 ** 30))).toMatchObject({
      syscall: "close",
      code: "EBADF",
      message: `close ${2 ** 30}: Bad file descriptor`,
    });
  });

  test.skipIf(!STRACE_WORKS)(`says nothing of data that was lost ${NEEDS_STRACE}`, async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("file"), "");
    const cmd = failing("close", "EIO", folder.file("file"));
    const child = [...cmd, process.execPath, CLOSING, folder.file("file")];
    expect(await command(child)).toBe("close: nothing\ncloseWritten: close: Input/output error\n");
  });
});

describe("dup", () => {
  test("shares the open file, and outlives the first descriptor", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const fd = descriptors.keep(open(folder.file("file"), O_WRONLY | O_CREAT, 0o600));
    const copy = descriptors.keep(dup(fd));
    writeAll(fd, Buffer.from("one,"));
    descriptors.close(fd);
    writeAll(copy, Buffer.from("two"));
    expect(readFileSync(folder.file("file"), "latin1")).toBe("one,two");
  });

  test("is close-on-exec even if the first descriptor is not", () => {
    using descriptors = new Descriptors();
    const inherited = descriptors.keep(libc.dup(descriptors.pipe().read));
    expect(flagsOf(inherited) & O_CLOEXEC).toBe(0);
    expect(flagsOf(descriptors.keep(dup(inherited))) & O_CLOEXEC).toBe(O_CLOEXEC);
  });

  test("throws for what is no descriptor", () => {
    expect(thrownBy(() => dup(2 ** 30))).toMatchObject({ syscall: "dup", code: "EBADF" });
  });
});

describe("setNonBlocking", () => {
  test("switches for all descriptors of the open file, and nothing else", () => {
    using descriptors = new Descriptors();
    const { read: fd } = descriptors.pipe();
    const copy = descriptors.keep(dup(fd));
    setNonBlocking(fd, false);
    expect(flagsOf(copy)).toBe(O_RDONLY | O_CLOEXEC);
    setNonBlocking(copy, true);
    setNonBlocking(copy, true);
    expect(flagsOf(fd)).toBe(O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  });

  test("leaves the other flags of a file alone", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const fd = descriptors.keep(open(folder.file("log"), O_WRONLY | O_CREAT | O_APPEND, 0o600));
    const before = flagsOf(fd);
    setNonBlocking(fd, true);
    expect(flagsOf(fd)).toBe(before | O_NONBLOCK);
    setNonBlocking(fd, false);
    expect(flagsOf(fd)).toBe(before);
    expect(before & O_APPEND).toBe(O_APPEND);
  });
});

describe("bytesReadable", () => {
  test("counts what waits in a pipe, at both of its ends", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    expect(bytesReadable(pipe.read)).toBe(0);
    writeAll(pipe.write, new Uint8Array(1234));
    expect(bytesReadable(pipe.read)).toBe(1234);
    expect(bytesReadable(pipe.write)).toBe(1234);
  });

  test("counts what waits in a socket, on the receiving side only", () => {
    using descriptors = new Descriptors();
    const [one, other] = descriptors.socketpair();
    writeAll(one, new Uint8Array(77));
    expect([bytesReadable(one), bytesReadable(other)]).toEqual([0, 77]);
  });
});

describe("deviceSize", () => {
  /** A block device of that many bytes, where the machine lets the user have one. */
  function loopDevice(folder: { file(name: string): string }, size: number): string | undefined {
    writeFileSync(folder.file("disk"), "");
    truncateSync(folder.file("disk"), size);
    try {
      const made = Bun.spawnSync(["losetup", "--find", "--show", folder.file("disk")]);
      return made.success ? made.stdout.toString().trim() : undefined;
    } catch {
      return undefined;
    }
  }

  test("is a block device's length", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const size = 3 * 1024 * 1024 + 512;
    const device = loopDevice(folder, size);
    if (device === undefined) return;
    try {
      expect(deviceSize(descriptors.keep(open(device, O_RDONLY)))).toBe(size);
    } finally {
      expect(Bun.spawnSync(["losetup", "--detach", device]).success).toBeTrue();
    }
  });

  test("throws for what is no block device", () => {
    using descriptors = new Descriptors();
    const fd = descriptors.keep(open("/dev/null", O_RDONLY));
    expect(thrownBy(() => deviceSize(fd))).toMatchObject({ syscall: "ioctl", code: "ENOTTY" });
  });
});

describe("hasNoWriter", () => {
  test("tells whether somebody has the file open for writing, and leaves it to all", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    writeFileSync(folder.file("file"), "x");
    const fd = descriptors.keep(open(folder.file("file"), O_RDONLY));
    expect(hasNoWriter(fd)).toBeTrue();
    descriptors.keep(open(folder.file("file"), O_RDONLY));
    expect(hasNoWriter(fd)).toBeTrue();
    // No lease is left that this would have to wait for (SIGIO).
    const writer = descriptors.keep(open(folder.file("file"), O_RDWR));
    expect(hasNoWriter(fd)).toBeFalse();
    descriptors.close(writer);
    expect(hasNoWriter(fd)).toBeTrue();
  });

  test("does not know of what is no file", () => {
    using descriptors = new Descriptors();
    expect(hasNoWriter(descriptors.keep(open("/dev/null", O_RDONLY)))).toBeUndefined();
  });
});

describe("isOpenNowhereElse", () => {
  test("tells whether somebody else has the file open, or mapped, and leaves it to all", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    writeFileSync(folder.file("file"), "x");
    const fd = descriptors.keep(open(folder.file("file"), O_RDWR));
    expect(isOpenNowhereElse(fd)).toBeTrue();
    descriptors.keep(dup(fd));
    expect(isOpenNowhereElse(fd)).toBeTrue();
    for (const mode of [O_RDONLY, O_RDWR]) {
      // No lease is left that this would have to wait for (SIGIO).
      const other = descriptors.keep(open(folder.file("file"), mode));
      expect(isOpenNowhereElse(fd)).toBeFalse();
      descriptors.close(other);
      expect(isOpenNowhereElse(fd)).toBeTrue();
    }
  });

  test("does not know of what is no file", () => {
    using descriptors = new Descriptors();
    expect(isOpenNowhereElse(descriptors.keep(open("/dev/null", O_RDWR)))).toBeUndefined();
  });
});

test("replace puts another file in the place of a descriptor, which no child inherits", () => {
  using folder = tempFolder();
  using descriptors = new Descriptors();
  writeFileSync(folder.file("old"), "old");
  writeFileSync(folder.file("new"), "new");
  const fd = descriptors.keep(open(folder.file("old"), O_RDONLY));
  replace(fd, descriptors.keep(open(folder.file("new"), O_RDONLY)));
  expect(readFileSync(`/proc/self/fd/${fd}`, "utf8")).toBe("new");
  expect(flagsOf(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
  expect(thrownBy(() => replace(fd, 999_999))).toMatchObject({ code: "EBADF" });
});

test("isLocked tells whether somebody has a lock on a byte", () => {
  using folder = tempFolder();
  using descriptors = new Descriptors();
  writeFileSync(folder.file("file"), "x");
  const fd = descriptors.keep(open(folder.file("file"), O_RDONLY));
  const other = descriptors.keep(open(folder.file("file"), O_RDONLY));
  // `struct flock`: a shared lock on bytes 100 and 101, as qemu's programs take it.
  const lock = new Memory(32);
  lock.view.setBigInt64(8, 100n, true);
  lock.view.setBigInt64(16, 2n, true);
  const F_OFD_SETLK = 37;
  expect(libc.fcntl(other, F_OFD_SETLK, lock.at(0))).toBe(0);
  expect([99, 100, 101, 102].map((byte) => isLocked(fd, byte))).toEqual([false, true, true, false]);
  expect(isLocked(other, 101)).toBeFalse();
  descriptors.close(other);
  expect(isLocked(fd, 101)).toBeFalse();
});

describe("seekBy", () => {
  test("tells and moves a file's position", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    writeFileSync(folder.file("file"), "abcdef");
    const fd = descriptors.keep(open(folder.file("file"), O_RDONLY));
    expect(seekBy(fd, 0)).toBe(0);
    expect(seekBy(fd, 4)).toBe(4);
    expect(seekBy(fd, -1)).toBe(3);
    expect(readAll(fd).toString()).toBe("def");
    expect(seekBy(fd, 2 ** 33)).toBe(6 + 2 ** 33);
  });

  test("throws for what has none", () => {
    using descriptors = new Descriptors();
    expect(thrownBy(() => seekBy(descriptors.pipe().read, 0))).toMatchObject({
      syscall: "lseek",
      code: "ESPIPE",
    });
  });
});

describe("read", () => {
  test("gives what is there, then would block, then is at the end of the file", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    const memory = new Memory(8);
    writeAll(pipe.write, Buffer.from("abc"));
    expect(read(pipe.read, memory.at(2), 6)).toBe(3);
    expect(Buffer.from(memory.bytes).toString("latin1")).toBe("\0\0abc\0\0\0");
    expect(read(pipe.read, memory.at(0), 8)).toBe(WOULD_BLOCK);
    descriptors.close(pipe.write);
    expect(read(pipe.read, memory.at(0), 8)).toBe(0);
  });

  test("throws other errors", () => {
    using descriptors = new Descriptors();
    const fd = descriptors.keep(open("/", O_RDONLY));
    expect(thrownBy(() => read(fd, new Memory(1).at(0), 1))).toMatchObject({
      syscall: "read",
      code: "EISDIR",
    });
  });
});

describe("write", () => {
  test("would block on a full pipe", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    expect(fill(pipe.write)).toBe(pipeSize(pipe.write));
    expect(write(pipe.write, new Memory(1).at(0), 1)).toBe(WOULD_BLOCK);
  });

  test("throws EPIPE when there is no reader, and the process lives", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    descriptors.close(pipe.read);
    expect(thrownBy(() => write(pipe.write, new Memory(1).at(0), 1))).toMatchObject({
      syscall: "write",
      code: "EPIPE",
    });
  });
});

describe("writev", () => {
  test("writes a part into a pipe that cannot take all, and the rest later", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    const size = pipeSize(pipe.write);
    const parts = [1, 2, 3].map((seed) => new Memory(pseudoRandom(size * 0.625, seed)));
    const vector = new IoVec(8);
    for (const part of parts) vector.push(part.at(0), part.length);
    const received: Buffer[] = [];
    const written: number[] = [];
    while (vector.count > 0) {
      const n = writev(pipe.write, vector);
      written.push(n);
      vector.consume(n);
      received.push(readAll(pipe.read));
    }
    expect(written).toEqual([size, size * 0.875]);
    expect(Buffer.concat(received)).toEqual(Buffer.concat(parts.map((part) => part.bytes)));
  });

  test("would block on a full pipe", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    fill(pipe.write);
    const memory = new Memory(10);
    const vector = new IoVec(1);
    vector.push(memory.at(0), 10);
    expect(writev(pipe.write, vector)).toBe(WOULD_BLOCK);
    expect(vector.remaining).toBe(10);
  });

  test("throws EPIPE when there is no reader", () => {
    using descriptors = new Descriptors();
    const pipe = descriptors.pipe();
    descriptors.close(pipe.read);
    const memory = new Memory(10);
    const vector = new IoVec(1);
    vector.push(memory.at(0), 10);
    expect(thrownBy(() => writev(pipe.write, vector))).toMatchObject({
      syscall: "writev",
      code: "EPIPE",
    });
  });
});
