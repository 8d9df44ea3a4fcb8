import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PrivateFolder } from "../../src/captive/private-folder.ts";
import { command } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

/** What a process with another TMPDIR says about its private folder. */
async function withTmpdir(
  folder: string,
): Promise<{ socket: string; existed: boolean; exists: boolean } | { code: string; text: string }> {
  const script = join(import.meta.dir, "private-folder.child.ts");
  return JSON.parse(await command([process.execPath, script], { env: { TMPDIR: folder } }));
}

test("nobody else can enter the folder", () => {
  const folder = new PrivateFolder();
  try {
    const stats = statSync(dirname(folder.socket));
    expect(stats.isDirectory()).toBeTrue();
    expect(stats.mode & 0o7777).toBe(0o700);
    expect(readdirSync(dirname(folder.socket))).toEqual([]);
  } finally {
    folder.remove();
  }
});

test("the folder goes with all that is in it, and may be gone already", () => {
  const folder = new PrivateFolder();
  writeFileSync(folder.socket, "");
  folder.remove();
  expect(existsSync(dirname(folder.socket))).toBeFalse();
  folder.remove();
});

test("two folders are two", () => {
  const [one, other] = [new PrivateFolder(), new PrivateFolder()];
  one.remove();
  try {
    expect(one.socket).not.toBe(other.socket);
    expect(existsSync(dirname(other.socket))).toBeTrue();
  } finally {
    other.remove();
  }
});

test("the folder is in TMPDIR", async () => {
  using temp = tempFolder();
  expect(await withTmpdir(temp.path)).toEqual({
    socket: expect.stringMatching(
      new RegExp(`^${temp.path}/nbd-streaming-[^/]{6}/nbd\\.sock$`),
    ) as never,
    existed: true,
    exists: false,
  });
  expect(readdirSync(temp.path)).toEqual([]);
});

test("the folder is in /tmp when a socket's path in TMPDIR would be too long", async () => {
  using temp = tempFolder();
  // With "/nbd-streaming-XXXXXX/nbd.sock", 77 bytes make 107, the longest that a socket can have.
  const long = (length: number) => {
    const path = join(temp.path, "d".repeat(length - temp.path.length - 1));
    mkdirSync(path);
    return path;
  };
  const [fits, tooLong] = [long(77), long(78)];
  const inside = (await withTmpdir(fits)) as { socket: string };
  expect(inside.socket).toStartWith(`${fits}/`);
  expect(Buffer.byteLength(inside.socket)).toBe(107);
  const elsewhere = (await withTmpdir(tooLong)) as { socket: string };
  expect(elsewhere.socket).toMatch(/^\/tmp\/nbd-streaming-[^/]{6}\/nbd\.sock$/);
});

test("a folder that cannot be made is an error that names TMPDIR", async () => {
  using temp = tempFolder();
  expect(await withTmpdir(temp.file("missing"))).toEqual({
    code: "ERR_FILE",
    text: expect.stringMatching(/^cannot make a temporary folder: .*TMPDIR/) as never,
  });
});
