import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { mkfifo } from "../../../ffi/pipe.ts";
import { prepareFifo, releaseFifo } from "../../../src/endpoint/opening/fifo.ts";
import { UnusableError } from "../../../src/endpoint/spec.ts";
import { tempFolder } from "../../support/temp.ts";
import { waitingAt } from "../../support/waiting.ts";

describe("prepareFifo", () => {
  test("makes a FIFO that only the user can read, and removes it", () => {
    using folder = tempFolder();
    const fifo = prepareFifo(folder.file("fifo"), "write");
    const stats = statSync(fifo.name);
    expect(stats.isFIFO()).toBeTrue();
    expect(stats.mode & 0o777).toBe(0o600);
    fifo.remove();
    expect(existsSync(fifo.name)).toBeFalse();
  });

  test("leaves a FIFO that was there before", () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o644);
    chmodSync(folder.file("fifo"), 0o644);
    prepareFifo(folder.file("fifo"), "write").remove();
    expect(statSync(folder.file("fifo")).mode & 0o777).toBe(0o644);
  });

  test.each(["write", "read"] as const)(
    "leaves nobody waiting at a FIFO that it removes (%s)",
    async (direction) => {
      using folder = tempFolder();
      const fifo = prepareFifo(folder.file("fifo"), direction);
      await using waiting = await waitingAt(fifo.name, direction);
      fifo.remove();
      expect((await waiting.ended()).stdout).toBe("");
      expect(existsSync(fifo.name)).toBeFalse();
    },
  );

  test("leaves what has taken the place of its FIFO", () => {
    using folder = tempFolder();
    const fifo = prepareFifo(folder.file("fifo"), "write");
    unlinkSync(fifo.name);
    writeFileSync(fifo.name, "mine");
    fifo.remove();
    expect(existsSync(fifo.name)).toBeTrue();
  });

  test("uses a FIFO behind a symbolic link", () => {
    using folder = tempFolder();
    mkfifo(folder.file("fifo"), 0o600);
    symlinkSync("fifo", folder.file("link"));
    expect(prepareFifo(folder.file("link"), "write").name).toBe(folder.file("link"));
  });

  test("refuses everything else", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("file"), "");
    mkdirSync(folder.file("folder"));
    symlinkSync("nothing", folder.file("dangling"));
    for (const name of ["file", "folder", "dangling"]) {
      expect(() => prepareFifo(folder.file(name), "write")).toThrow(UnusableError);
    }
    expect(() => prepareFifo("/dev/null", "write")).toThrow(UnusableError);
    expect(existsSync(folder.file("nothing"))).toBeFalse();
  });

  test("makes one to read from, too", () => {
    using folder = tempFolder();
    const fifo = prepareFifo(folder.file("fifo"), "read");
    expect(statSync(fifo.name).mode & 0o777).toBe(0o600);
    expect(fifo.handle).toEqual({ kind: "fifo", path: fifo.name });
    expect(fifo.length).toBeUndefined();
    fifo.remove();
    expect(existsSync(fifo.name)).toBeFalse();
  });

  // To root, access rights mean nothing.
  test.skipIf(process.getuid?.() === 0)("wants only the access that its direction needs", () => {
    using folder = tempFolder();
    const cases = [
      ["read", 0o400, 0o200],
      ["write", 0o200, 0o400],
    ] as const;
    for (const [direction, enough, wrong] of cases) {
      mkfifo(folder.file(direction), enough);
      expect(prepareFifo(folder.file(direction), direction).name).toEndWith(direction);
      mkfifo(folder.file(`no-${direction}`), wrong);
      expect(() => prepareFifo(folder.file(`no-${direction}`), direction)).toThrow("EACCES");
    }
  });
});

describe("releaseFifo", () => {
  test.each(["write", "read"] as const)("lets everybody go who waits (%s)", async (direction) => {
    using folder = tempFolder();
    const path = folder.file("fifo");
    mkfifo(path, 0o600);
    await using one = await waitingAt(path, direction);
    await using other = await waitingAt(path, direction);
    releaseFifo(path, direction);
    for (const waiting of [one, other]) expect((await waiting.ended()).stdout).toBe("");
    expect(statSync(path).isFIFO()).toBeTrue();
  });

  test.each(["write", "read"] as const)(
    "does nothing where nobody is, or no FIFO (%s)",
    (direction) => {
      using folder = tempFolder();
      mkfifo(folder.file("fifo"), 0o600);
      writeFileSync(folder.file("file"), "mine");
      for (const name of ["fifo", "file", "nothing", "file/below", "."]) {
        releaseFifo(folder.file(name), direction);
      }
      expect(readFileSync(folder.file("file"), "utf8")).toBe("mine");
      expect(existsSync(folder.file("nothing"))).toBeFalse();
    },
  );
});
