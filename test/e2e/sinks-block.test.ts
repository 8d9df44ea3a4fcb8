/** A block device as the sink: a loop device, where this user may have one. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { nbdcopy, qemuIo } from "../support/clients.ts";
import { rawImage } from "../support/images.ts";
import { command, runProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;

const folder = tempFolder();
afterAll(() => folder[Symbol.dispose]());

/** What the device has in it before. */
const before = Buffer.alloc(16 * MiB, "x");

describe.skipIf(!loopDevicesWork())("a loop device (skipped where losetup cannot make one)", () => {
  test("takes a disk, and keeps what lies behind it", async () => {
    const disk = await rawImage(folder.file("disk.raw"), 9 * MiB + 512);
    const { ended, content } = await onLoopDevice(nbdcopy(disk.path));
    expect(ended.status).toBe(0);
    const expected = Buffer.from(before);
    expected.set(readFileSync(disk.path));
    expect(content.equals(expected)).toBe(true);
  });

  test("takes zeroes where the disk has them, over what was there", async () => {
    const { ended, content } = await onLoopDevice([
      "size=14M",
      ...qemuIo("write -P 1 1M 1M", "write -z 2M 3M", "write -P 2 7M 1M"),
    ]);
    expect(ended.status).toBe(0);
    const expected = Buffer.from(before).fill(0, 0, 14 * MiB);
    expected.fill(1, MiB, 2 * MiB).fill(2, 7 * MiB, 8 * MiB);
    expect(content.equals(expected)).toBe(true);
  });

  test("that is too small for the disk fails the run, and the client is told so", async () => {
    const disk = await rawImage(folder.file("large.raw"), 24 * MiB);
    const { ended, content } = await onLoopDevice(nbdcopy(disk.path));
    expect(ended.status).not.toBe(0);
    expect(ended.stderr).toMatch(/nbdcopy: .*No space left on device/);
    expect(ended.stderr).toMatch(/truncated: \/dev\/loop\d+ failed with the stream at byte \d+: /);
    expect(content.equals(readFileSync(disk.path).subarray(0, 16 * MiB))).toBe(true);
  });
});

/** Runs `run` into a fresh device of 16 MiB. @returns how it ended, and what is then in the device */
async function onLoopDevice(words: readonly string[]) {
  using scratch = tempFolder();
  const file = scratch.file("device");
  writeFileSync(file, before);
  const device = (await command(["losetup", "--find", "--show", file])).trim();
  try {
    const ended = await runProgram(["run", `pipe=${device}`, ...words]);
    // The device's own cache goes to the file before anybody looks there.
    await command(["blockdev", "--flushbufs", device]);
    return { ended, content: readFileSync(file) };
  } finally {
    await command(["losetup", "--detach", device]);
  }
}

function loopDevicesWork(): boolean {
  if (Bun.which("losetup") === null || Bun.which("blockdev") === null) return false;
  const file = folder.file("probe");
  writeFileSync(file, Buffer.alloc(MiB));
  const { success, stdout } = Bun.spawnSync(["losetup", "--find", "--show", file]);
  if (success) Bun.spawnSync(["losetup", "--detach", stdout.toString().trim()]);
  return success;
}
