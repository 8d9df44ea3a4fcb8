import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { linkSync, mkdirSync, openSync, symlinkSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import type { UserError } from "../../src/errors.ts";
import {
  placeOf,
  requireDifferentFile,
  temporaryName,
  explainFailure,
} from "../../src/files/place.ts";
import { Descriptors, thrownBy } from "../ffi/descriptors.ts";
import { LIMIT } from "../support/limit.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** Accepts texts that end with an exclamation mark. */
const place = (path: string) => placeOf(path, "a cry", (text) => text.endsWith("!"));

/** Why it is none, and what to do. */
const refusal = (path: string) => explainFailure(thrownBy(() => place(path)));

describe("a text of ours may go to", () => {
  test("a name that nothing has", () => {
    using folder = tempFolder();
    expect(place(folder.file("new"))).toEqual({ kind: "name" });
  });

  test("a file that holds one already, or nothing", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("old"), "alas!");
    writeFileSync(folder.file("empty"), "");
    expect(place(folder.file("old"))).toEqual({ kind: "name" });
    expect(place(folder.file("empty"))).toEqual({ kind: "name" });
  });

  test("a symbolic link to a file or to nothing: it is the link that goes", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("precious"), "precious");
    symlinkSync("precious", folder.file("link"));
    symlinkSync("nothing", folder.file("dangling"));
    expect(place(folder.file("link"))).toEqual({ kind: "name" });
    expect(place(folder.file("dangling"))).toEqual({ kind: "name" });
  });

  test("a FIFO or a character device, also behind a link", () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    symlinkSync("fifo", folder.file("link"));
    for (const path of [folder.file("fifo"), folder.file("link"), "/dev/null"]) {
      expect(place(path)).toEqual({ kind: "device" });
    }
  });

  test.each(["/dev/fd/", "/proc/self/fd/", `/proc/${process.pid}/fd/`, "/proc/thread-self/fd/"])(
    "a descriptor of this program: %sN",
    (names) => {
      using folder = tempFolder();
      using descriptors = new Descriptors();
      const fd = descriptors.keep(openSync(folder.file("log"), "w"));
      expect(place(`${names}${fd}`)).toEqual({ kind: "descriptor", fd });
      symlinkSync(`${names}${fd}`, folder.file("link"));
      expect(place(folder.file("link"))).toEqual({ kind: "descriptor", fd });
    },
  );

  test("standard output and error, whatever they are", () => {
    expect(place("/dev/stdout")).toEqual({ kind: "descriptor", fd: 1 });
    expect(place("/dev/stderr")).toEqual({ kind: "descriptor", fd: 2 });
  });
});

describe("nothing of ours goes to", () => {
  test("a file of another kind", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("notes"), "my notes");
    expect(refusal(folder.file("notes"))).toBe(
      "it is there and is not a cry; name another file, or remove it",
    );
  });

  test("a file that is too large for one", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("large"), `${"x".repeat(100_000)}!`);
    expect(refusal(folder.file("large"))).toStartWith("it is there and is not a cry; ");
  });

  test("a folder, a socket or a name with a slash at its end", () => {
    using folder = tempFolder();
    mkdirSync(folder.file("folder"));
    const listener = Bun.listen({ unix: folder.file("socket"), socket: { data() {} } });
    expect(refusal(folder.file("folder"))).toBe("it is a folder; name another file");
    expect(refusal(folder.file("socket"))).toBe("it is a socket; name another file");
    expect(refusal(folder.file("new/"))).toBe("it can only be a folder; name a file");
    listener.stop(true);
  });

  test.skipIf(!makesDevices())("a block device (needs mknod)", () => {
    using folder = tempFolder();
    makeDevice(folder.file("block"));
    expect(refusal(folder.file("block"))).toBe("it is a block device; name another file");
  });

  test.each(["missing/new", "file/new"])("what is no folder: %s", (name) => {
    using folder = tempFolder();
    writeFileSync(folder.file("file"), "");
    expect(refusal(folder.file(name))).toMatch(/^E(NOENT|NOTDIR): .*; check the folder$/);
  });

  test("a descriptor that is open for reading, or not open", () => {
    using descriptors = new Descriptors();
    const fd = descriptors.keep(openSync("/dev/null", "r"));
    expect(refusal(`/dev/fd/${fd}`)).toBe("it is open for reading only; name another file");
    expect(refusal("/dev/fd/99999")).toStartWith("descriptor 99999 is not open; redirect it ");
  });
});

describe("two names are one file", () => {
  /** What is said of them, if they are. */
  function same(path: string, other: string): string | undefined {
    try {
      requireDifferentFile({ name: "--ours", path }, [{ name: "yours", path: other }]);
      return undefined;
    } catch (error) {
      expect(error).toMatchObject({ code: "ERR_USAGE", exitStatus: 2 });
      return (error as UserError).message;
    }
  }

  test("when they are, or would be, in the same folder", () => {
    using folder = tempFolder();
    mkdirSync(folder.file("in"));
    symlinkSync("in", folder.file("link"));
    const path = folder.file("in/x");
    const message = `--ours and yours are one file, ${path}: name another one`;
    for (const other of [path, folder.file("in/../in/./x"), folder.file("link/x")]) {
      expect(same(path, other)).toBe(message);
    }
    expect(same(path, folder.file("x"))).toBeUndefined();
    expect(same(folder.file("missing/x"), folder.file("missing/x"))).not.toBeUndefined();
  });

  test("when they lead to the same one, by a link of either kind or a descriptor", () => {
    using folder = tempFolder();
    using descriptors = new Descriptors();
    const path = folder.file("x");
    const fd = descriptors.keep(openSync(path, "w"));
    symlinkSync("x", folder.file("soft"));
    linkSync(path, folder.file("hard"));
    for (const other of [folder.file("soft"), folder.file("hard"), `/proc/self/fd/${fd}`]) {
      expect(same(path, other)).not.toBeUndefined();
    }
  });

  test("but for a character device, which takes what anybody writes", () => {
    expect(same("/dev/null", "/dev/null")).toBeUndefined();
  });
});

test("a temporary name is in the same folder, and another one each time", () => {
  const names = Array.from({ length: 100 }, () => temporaryName("/some/folder/file"));
  expect(new Set(names).size).toBe(100);
  for (const name of names) expect(name).toMatch(/^\/some\/folder\/\.nbd-streaming-[0-9a-f]{12}$/);
});

function makeDevice(path: string): boolean {
  return Bun.spawnSync(["mknod", path, "b", "7", "0"]).success;
}

function makesDevices(): boolean {
  using folder = tempFolder();
  return makeDevice(folder.file("probe"));
}
