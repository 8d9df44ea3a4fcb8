import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { O_NONBLOCK, O_RDONLY } from "../../ffi/constants.ts";
import { open } from "../../ffi/fd.ts";
import { mkfifo } from "../../ffi/pipe.ts";
import { UserError } from "../../src/errors.ts";
import { PidFile, requirePidFile } from "../../src/server/pid-file.ts";
import { Descriptors, readAll, thrownBy } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

test("the file holds the process id in one line until it is removed", () => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  expect(readFileSync(folder.file("pid"), "latin1")).toBe(`${process.pid}\n`);
  expect(readdirSync(folder.path)).toEqual(["pid"]);
  file.remove();
  expect(existsSync(folder.file("pid"))).toBeFalse();
});

test.each(["123456789123456789\n", "1\n", "  42  ", ""])(
  "what an earlier run has left behind is replaced: %j",
  (text) => {
    using folder = tempFolder();
    writeFileSync(folder.file("pid"), text);
    requirePidFile(folder.file("pid"));
    const file = new PidFile(folder.file("pid"));
    expect(file).toBeInstanceOf(PidFile);
    expect(readFileSync(folder.file("pid"), "latin1")).toBe(`${process.pid}\n`);
  },
);

test("a file that is gone already is no trouble", () => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  file.remove();
  expect(() => file.remove()).not.toThrow();
});

test.each(["4711\n", "my notes\n"])("a file that is somebody else's by now stays: %j", (text) => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  unlinkSync(folder.file("pid"));
  writeFileSync(folder.file("pid"), text);
  file.remove();
  expect(readFileSync(folder.file("pid"), "latin1")).toBe(text);
});

test("a file that others have written to stays", () => {
  using folder = tempFolder();
  const file = new PidFile(folder.file("pid"));
  writeFileSync(folder.file("pid"), "my notes\n");
  file.remove();
  expect(readFileSync(folder.file("pid"), "latin1")).toBe("my notes\n");
});

test("a symbolic link is replaced, and what it leads to stays", () => {
  using folder = tempFolder();
  writeFileSync(folder.file("real"), "precious");
  symlinkSync("real", folder.file("pid"));
  const file = new PidFile(folder.file("pid"));
  expect(lstatSync(folder.file("pid")).isFile()).toBeTrue();
  file.remove();
  expect(readFileSync(folder.file("real"), "latin1")).toBe("precious");
  expect(readdirSync(folder.path)).toEqual(["real"]);
});

test("a FIFO gets the number if somebody reads it, and stays", () => {
  using folder = tempFolder();
  using descriptors = new Descriptors();
  mkfifo(folder.file("pid"), 0o600);
  expect(thrownBy(() => new PidFile(folder.file("pid")))).toMatchObject({ code: "ERR_FILE" });
  const reader = descriptors.keep(open(folder.file("pid"), O_RDONLY | O_NONBLOCK));
  const file = new PidFile(folder.file("pid"));
  expect(readAll(reader).toString()).toBe(`${process.pid}\n`);
  file.remove();
  expect(lstatSync(folder.file("pid")).isFIFO()).toBeTrue();
});

describe.each([
  { when: "before anything begins", make: requirePidFile },
  { when: "when it is made", make: (path: string) => new PidFile(path) },
])("$when,", ({ make }) => {
  test.each(["missing/pid", "folder", "notes", "image", "socket"])(
    "a file that cannot be written is an error, and stays as it is: %s",
    (name) => {
      using folder = tempFolder();
      mkdirSync(folder.file("folder"));
      writeFileSync(folder.file("notes"), "1 apple\n");
      writeFileSync(folder.file("image"), Buffer.alloc(200_000, "1"));
      const listener = Bun.listen({ unix: folder.file("socket"), socket: { data() {} } });
      const thrown = thrownBy(() => make(folder.file(name)));
      expect(thrown).toBeInstanceOf(UserError);
      expect(thrown).toMatchObject({ code: "ERR_FILE", exitStatus: 3 });
      const { message } = thrown as UserError;
      expect(message).toStartWith("cannot write pidFile: ");
      expect(message).toContain(folder.file(name));
      expect(readFileSync(folder.file("notes"), "latin1")).toBe("1 apple\n");
      expect(lstatSync(folder.file("image")).size).toBe(200_000);
      listener.stop(true);
    },
  );
});
