import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openSync, readFileSync } from "node:fs";
import { O_NOCTTY, O_RDWR } from "../../ffi/constants.ts";
import { dup, open, setNonBlocking } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { Memory } from "../../ffi/memory.ts";
import { LineWriter } from "../../src/process/line-writer.ts";
import { Descriptors, fill, flagsOf, readAll } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** More than a pipe or a socket holds, and more than may wait. */
const FAR_TOO_MANY = 40_000;

/** A pipe as a shell makes it: writing to it blocks. */
function shared(descriptors: Descriptors): { read: number; write: number } {
  const ends = descriptors.pipe();
  setNonBlocking(ends.write, false);
  return ends;
}

/** What comes out until the last line of it is there. */
async function readUntil(fd: number, last: RegExp): Promise<string> {
  let text = "";
  await eventually(() => {
    text += readAll(fd).toString();
    return last.test(text);
  }, `${last} in what is written`);
  return text;
}

describe.each([
  ["a pipe", (descriptors: Descriptors) => shared(descriptors)],
  [
    "a socket",
    (descriptors: Descriptors) => {
      const [read, write] = descriptors.socketpair();
      setNonBlocking(write, false);
      return { read, write };
    },
  ],
])("%s that nobody reads", (_, ends) => {
  test("keeps nobody waiting, and later gets whole lines in their order", async () => {
    using descriptors = new Descriptors();
    const { read, write } = ends(descriptors);
    const flags = flagsOf(write);
    const writer = new LineWriter(write);
    for (let i = 0; i < FAR_TOO_MANY; i++) writer.writeOrDrop(`line ${i}\n`);
    expect(writer.idle).toBeFalse();
    // Those who share it do not see that we do not wait.
    expect(flagsOf(write)).toBe(flags);
    const text = await readUntil(read, / lost: nobody was reading\n$/);
    const lines = text.trimEnd().split("\n");
    const note = /^nbd-streaming: (\d+) more messages were lost: nobody was reading$/;
    const lost = Number(note.exec(lines.pop() as string)?.[1]);
    expect(lost).toBeGreaterThan(0);
    expect(lines.length + lost).toBe(FAR_TOO_MANY);
    expect(lines).toEqual(lines.map((__, i) => `line ${i}`));
  });

  test("gets what must not be lost behind a note of what was", async () => {
    using descriptors = new Descriptors();
    const { read, write } = ends(descriptors);
    const writer = new LineWriter(write);
    for (let i = 0; i < FAR_TOO_MANY; i++) writer.writeOrDrop(`line ${i}\n`);
    writer.write("the end\n");
    writer.write("the very end\n");
    const text = await readUntil(read, /the very end\n$/);
    expect(text.trimEnd().split("\n").slice(-3)).toEqual([
      expect.stringMatching(/^nbd-streaming: \d+ more messages were lost: nobody was reading$/),
      "the end",
      "the very end",
    ]);
  });

  test("is offered nothing", async () => {
    using descriptors = new Descriptors();
    const { read, write } = ends(descriptors);
    const writer = new LineWriter(write);
    expect(writer.tryWrite("taken\n")).toBeTrue();
    let n = 0;
    while (writer.tryWrite(`${n}\n`) && writer.idle) n++;
    expect(n).toBeGreaterThan(0);
    expect(n).toBeLessThan(FAR_TOO_MANY * 10);
    expect(writer.idle).toBeTrue();
    expect(writer.tryWrite("refused\n")).toBeFalse();
    expect(readAll(read).toString()).toEndWith(`\n${n - 1}\n`);
    writer.write("later\n");
    expect(readAll(read).toString()).toBe("later\n");
  });

  test("is waited for at the end, but not for ever", async () => {
    using descriptors = new Descriptors();
    const { read, write } = ends(descriptors);
    const writer = new LineWriter(write);
    for (let i = 0; i < FAR_TOO_MANY; i++) writer.writeOrDrop("x\n");
    writer.drain(50);
    expect(writer.idle).toBeFalse();
    const reader = Bun.spawn(["sh", "-c", "sleep 0.2; exec cat"], {
      stdio: [read, "pipe", "inherit"],
    });
    writer.drain(LIMIT);
    expect(writer.idle).toBeTrue();
    descriptors.close(write);
    reader.kill();
    await reader.exited;
  });

  test("gets a line longer than its buffer whole, before the next one", async () => {
    using descriptors = new Descriptors();
    const { read, write } = ends(descriptors);
    const writer = new LineWriter(write);
    const long = "l".repeat(3 * 1024 * 1024);
    writer.write(`${long}\n`);
    writer.write("short\n");
    expect(writer.tryWrite("not now\n")).toBeFalse();
    expect((await readUntil(read, /short\n$/)) === `${long}\nshort\n`).toBeTrue();
  });
});

test("what has waited for room is written by itself once there is some", async () => {
  using descriptors = new Descriptors();
  const { read, write } = shared(descriptors);
  const other = descriptors.keep(dup(write));
  setNonBlocking(other, true);
  fill(other);
  setNonBlocking(other, false);
  const writer = new LineWriter(write);
  writer.write("at last\n");
  expect(writer.idle).toBeFalse();
  readAll(read);
  await eventually(() => writer.idle, "the line to be written");
  expect(readAll(read).toString()).toBe("at last\n");
});

test("a reader that is gone is no trouble, and what it left is forgotten", () => {
  using descriptors = new Descriptors();
  const { read, write } = shared(descriptors);
  const before = new LineWriter(write);
  for (let i = 0; i < FAR_TOO_MANY; i++) before.writeOrDrop("x\n");
  descriptors.close(read);
  before.write("nobody\n");
  expect(before.idle).toBeTrue();
  // A pipe without a reader cannot be opened for writing (ENXIO).
  const after = new LineWriter(write);
  after.write("nobody\n");
  expect(after.idle).toBeTrue();
  expect(after.tryWrite("nobody\n")).toBeTrue();
});

test("a descriptor that is not open is no trouble", () => {
  const writer = new LineWriter(999_999);
  writer.write("nobody\n");
  expect(writer.idle).toBeTrue();
});

test("a file is written at the place where those who share it are", () => {
  using folder = tempFolder();
  using descriptors = new Descriptors();
  const fd = descriptors.keep(openSync(folder.file("log"), "w"));
  const writer = new LineWriter(fd);
  writer.write("one\n");
  const other = descriptors.keep(dup(fd));
  new LineWriter(other).write("two\n");
  writer.write("three\n");
  expect(readFileSync(folder.file("log"), "latin1")).toBe("one\ntwo\nthree\n");
});

test("a device that is full is no trouble", () => {
  using descriptors = new Descriptors();
  const writer = new LineWriter(descriptors.keep(openSync("/dev/full", "w")));
  writer.write("nobody\n");
  expect(writer.idle).toBeTrue();
});

// ioctl_tty(2), which the program has no use for
const TIOCSPTLCK = 0x40045431;
const TIOCGPTN = 0x80045430;
const TCXONC = 0x540a;
const TCOOFF = 0;
const TCOON = 1;

/** Both sides of a terminal. */
function terminal(descriptors: Descriptors): { master: number; slave: number } {
  const number = new Memory(4);
  const master = descriptors.keep(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  expect(libc.ioctl(master, TIOCSPTLCK, number.at(0))).toBe(0);
  expect(libc.ioctl(master, TIOCGPTN, number.at(0))).toBe(0);
  const path = `/dev/pts/${number.view.getUint32(0, true)}`;
  const slave = descriptors.keep(open(path, O_RDWR | O_NOCTTY));
  return { master, slave };
}

test("a terminal that is stopped (Ctrl-S) keeps nobody waiting", async () => {
  using descriptors = new Descriptors();
  const { master, slave } = terminal(descriptors);
  const writer = new LineWriter(slave);
  writer.write("one\n");
  expect(libc.ioctl(slave, TCXONC, TCOOFF as never)).toBe(0);
  for (let i = 0; i < FAR_TOO_MANY; i++) writer.writeOrDrop(`line ${i}\n`);
  expect(writer.idle).toBeFalse();
  expect(writer.tryWrite("bar")).toBeFalse();
  setNonBlocking(master, true);
  expect(readAll(master).toString()).toBe("one\r\n");
  expect(libc.ioctl(slave, TCXONC, TCOON as never)).toBe(0);
  const text = await readUntil(master, /nobody was reading\r\n$/);
  const lines = text.split("\r\n").slice(0, -2);
  expect(lines).toEqual(lines.map((_, i) => `line ${i}`));
});

test("the other side of a terminal is written to, and no new one made", () => {
  using descriptors = new Descriptors();
  const { master, slave } = terminal(descriptors);
  new LineWriter(master).write("typed\n");
  setNonBlocking(slave, true);
  expect(readAll(slave).toString()).toBe("typed\n");
});
