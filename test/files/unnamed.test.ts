import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, fstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { close } from "../../ffi/fd.ts";
import { makeUnnamed } from "../../src/files/unnamed.ts";
import { LIMIT } from "../support/limit.ts";
import { AS_NOBODY, noNobody } from "../support/nobody.ts";
import { command } from "../support/program.ts";
import { NEEDS_STRACE, STRACE_WORKS } from "../support/strace.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

/** How to start unnamed.child.ts. */
const CHILD = [process.execPath, join(import.meta.dir, "unnamed.child.ts")];

/** What the child says. @param before words in front of it */
async function made(before: readonly string[], folder: string, mustPunch = true) {
  const line = [...before, ...CHILD, folder, mustPunch ? "punch" : ""];
  return JSON.parse(await command(line)) as Record<string, unknown>;
}

/** A file that nothing leads to. */
const UNNAMED = { mode: 0o600, nlink: 0, size: 0, blocks: 0, left: [] };

const ROOM = "name a folder with room in it";

test("the file is ours alone, empty, and nothing in its folder leads to it", () => {
  using folder = tempFolder();
  const before = process.umask(0);
  const { fd } = makeUnnamed(folder.path, true);
  process.umask(before);
  try {
    const { mode, nlink, size, blocks } = fstatSync(fd);
    expect({ mode: mode & 0o777, nlink, size, blocks, left: readdirSync(folder.path) }).toEqual(
      UNNAMED,
    );
  } finally {
    close(fd);
  }
});

describe("a folder is of no use", () => {
  test("that is not there, or is none", () => {
    using folder = tempFolder();
    writeFileSync(folder.file("x"), "precious");
    for (const name of ["x", "y", "x/y"]) {
      const path = folder.file(name);
      expect(() => makeUnnamed(path, true)).toThrow(`open ${path}: `);
      expect(() => makeUnnamed(path, true)).toThrow(
        expect.objectContaining({ hint: "make the folder first" }),
      );
    }
    expect(readdirSync(folder.path)).toEqual(["x"]);
  });

  test("in which no file may be longer than a few bytes", async () => {
    using folder = tempFolder();
    const limited = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"];
    expect(await made(limited, folder.path)).toEqual({
      why: "pwrite: File too large",
      hint: "raise ulimit -f",
      left: [],
    });
  });

  test.skipIf(noNobody !== undefined)(
    "that one may not write to (skipped where a test cannot be another user)",
    async () => {
      using folder = tempFolder();
      chmodSync(folder.path, 0o755);
      mkdirSync(folder.file("closed"));
      chmodSync(folder.file("closed"), 0o755);
      expect(await made(AS_NOBODY, folder.file("closed"))).toEqual({
        why: `open ${folder.file("closed")}: Permission denied`,
        hint: "name a folder that you may write to",
        left: [],
      });
    },
  );
});

const MOUNTS =
  spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "none", "/mnt"], { stdio: "ignore" })
    .status === 0;

describe.skipIf(!MOUNTS)(
  "on a file system of its own (skipped where nothing can be mounted)",
  () => {
    /** What the child says of such a folder. @param filling shell words that are run there first */
    async function madeOn(mount: string, { filling = ":", mustPunch = true } = {}) {
      using folder = tempFolder();
      const script = `mount ${mount} none "$0" && (cd "$0"; ${filling}); exec "$@"`;
      return await made(["unshare", "-m", "sh", "-c", script, folder.path], folder.path, mustPunch);
    }

    test("a folder without room is of no use", async () => {
      const filling = "dd if=/dev/zero of=full bs=4k count=64 2> /dev/null";
      expect(await madeOn("-t tmpfs -o size=64k", { filling })).toEqual({
        why: "pwrite: No space left on device",
        hint: ROOM,
        left: ["full"],
      });
    });

    test("a folder without inodes is of no use", async () => {
      const found = await madeOn("-t tmpfs -o nr_inodes=2", { filling: "> full" });
      expect(found).toMatchObject({
        why: expect.stringMatching(/No space left on device/),
        hint: ROOM,
        left: ["full"],
      });
    });

    test("that can only be read, a folder is of no use", async () => {
      expect(await madeOn("-t tmpfs -o ro")).toMatchObject({
        why: expect.stringMatching(/Read-only file system/),
        hint: "name a folder that you may write to",
      });
    });

    test("that cannot make holes, a folder does where nothing is given back", async () => {
      expect(await madeOn("-t ramfs")).toEqual({
        why: "its file system cannot give back a part of a file (FALLOC_FL_PUNCH_HOLE)",
        hint: "name a folder on one that can, such as ext4, XFS, Btrfs or tmpfs",
        left: [],
      });
      const can = { punches: false, zeroesInPlace: false, reportsLosses: false };
      expect(await madeOn("-t ramfs", { mustPunch: false })).toEqual({ ...UNNAMED, ...can });
    });

    test("that makes holes, but not zeroes in their place, a folder does", async () => {
      const can = { punches: true, zeroesInPlace: false, reportsLosses: true };
      expect(await madeOn("-t tmpfs")).toEqual({ ...UNNAMED, ...can });
    });
  },
);

/** A folder can be made in which files are made and not removed. */
const APPENDS = chattrWorks();

function chattrWorks(): boolean {
  using folder = tempFolder();
  const set = (how: string) =>
    spawnSync("chattr", [how, folder.path], { stdio: "ignore" }).status === 0;
  return set("+a") && set("-a");
}

describe.skipIf(!STRACE_WORKS)(`where a call fails ${NEEDS_STRACE}`, () => {
  /** Words for a program of which the calls of one name fail. @param only more about which */
  const failing = (call: string, error: string, ...only: string[]) => {
    const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:error=${error}`];
    return ["strace", "-f", "-qq", "-o", "/dev/null", ...inject, ...only];
  };

  /** The same where O_TMPFILE is not known. */
  const withoutUnnamed = (folder: string, error: string) =>
    failing("openat", `${error}:when=1`, "-P", folder);

  test.each(["EOPNOTSUPP", "EISDIR"])(
    "with %s for O_TMPFILE, the file has a name, and only for a moment",
    async (error) => {
      using folder = tempFolder();
      const found = await made(withoutUnnamed(folder.path, error), folder.path);
      expect(found).toMatchObject(UNNAMED);
    },
  );

  test.skipIf(!APPENDS)(
    "in a folder that keeps the name, the user is told (skipped where chattr(1) cannot make one)",
    async () => {
      using folder = tempFolder();
      await command(["chattr", "+a", folder.path]);
      try {
        const found = await made(withoutUnnamed(folder.path, "EISDIR"), folder.path);
        expect(found).toEqual({
          why: expect.stringMatching(/EPERM.*unlink .*\.nbd-streaming-/),
          hint: "remove that file, and name another folder",
          left: [expect.stringMatching(/^\.nbd-streaming-/)],
        });
      } finally {
        await command(["chattr", "-a", folder.path]);
      }
    },
  );

  test("fallocate(2) with EOPNOTSUPP makes it a file without holes", async () => {
    using folder = tempFolder();
    const strace = failing("fallocate", "EOPNOTSUPP");
    expect(await made(strace, folder.path)).toMatchObject({
      why: expect.stringMatching(/FALLOC_FL_PUNCH_HOLE/),
    });
    const can = { punches: false, zeroesInPlace: false, reportsLosses: true };
    expect(await made(strace, folder.path, false)).toEqual({ ...UNNAMED, ...can });
  });

  test.each([
    ["EIO", "name another folder"],
    ["ENOSPC", ROOM],
    ["EDQUOT", ROOM],
  ])("pwrite(2) with %s makes the folder one of no use", async (error, hint) => {
    using folder = tempFolder();
    expect(await made(failing("pwrite64", error), folder.path)).toEqual({
      why: expect.stringMatching(/^pwrite: /),
      hint,
      left: [],
    });
  });
});
