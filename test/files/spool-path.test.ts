import { expect, setDefaultTimeout, test } from "bun:test";
import { appendFileSync, closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { close } from "../../ffi/fd.ts";
import { SpoolPath } from "../../src/files/spool-path.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { LIMIT } from "../support/limit.ts";
import { eventually, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** A file without a name, with its path. */
function spool() {
  const folder = tempFolder();
  const { fd } = makeUnnamed(folder.path, false);
  const spoolPath = new SpoolPath();
  spoolPath.open(fd);
  return {
    fd,
    spoolPath,
    path: spoolPath.path as string,
    [Symbol.dispose]() {
      spoolPath[Symbol.dispose]();
      close(fd);
      folder[Symbol.dispose]();
    },
  };
}

test("there is no path before there is a file, and nothing to close", () => {
  const spoolPath = new SpoolPath();
  expect(spoolPath.path).toBeUndefined();
  spoolPath[Symbol.dispose]();
});

test("the path leads to the file, which is measured", () => {
  using made = spool();
  expect(made.spoolPath.measure()).toEqual({ length: 0n, room: 0 });
  writeFileSync(made.path, "longer");
  writeFileSync(made.path, "abc");
  expect(readFileSync(made.fd, "utf8")).toBe("abc");
  expect(made.spoolPath.measure().length).toBe(3n);
  expect(made.spoolPath.measure().room).toBeGreaterThan(0);
});

test("the path leads to the file as long as it is not shut, and then nowhere that can be written to", () => {
  using made = spool();
  appendFileSync(made.path, "abc");
  made.spoolPath.shut();
  for (const flags of ["r+", "w", "a"]) expect(() => openSync(made.path, flags)).toThrow("EISDIR");
  expect(readFileSync(made.fd, "utf8")).toBe("abc");
  expect(made.spoolPath.measure().length).toBe(3n);
});

test("nobody has the file open but this process, by any number of duplicates", () => {
  using made = spool();
  expect(made.spoolPath.users()).toEqual([]);
});

test.each(["<", ">>"])("a process that has the file open by %s is found", async (mode) => {
  using made = spool();
  await using other = start([
    "sh",
    "-c",
    `exec 3${mode}"$1"; echo open >&2; exec sleep 300`,
    "sh",
    made.path,
  ]);
  await other.saying(/open/);
  expect(made.spoolPath.users()).toEqual([other.process.pid]);
  made.spoolPath.shut();
  expect(made.spoolPath.users()).toEqual([other.process.pid]);
  other.process.kill("SIGKILL");
  await eventually(() => made.spoolPath.users().length === 0, "its end");
});

test("one that /proc does not show is told of", () => {
  using made = spool();
  // This process does not count itself, but it is no duplicate either.
  const fd = openSync(made.path, "r+");
  expect(made.spoolPath.users()).toBe("unseen");
  closeSync(fd);
  expect(made.spoolPath.users()).toEqual([]);
});
