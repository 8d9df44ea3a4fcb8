/** A block device as the sink: a loop device, where this user may have one. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { O_EXCL, O_RDONLY } from "../../ffi/constants.ts";
import { open } from "../../ffi/fd.ts";
import { Descriptors } from "../ffi/descriptors.ts";
import { loopDevicesWork } from "../support/abilities.ts";
import { nbdcopy, qemuIo } from "../support/client-commands.ts";
import { rawImage } from "../support/images.ts";
import { command, runProgram } from "../support/program.ts";
import { quoted, shell, startShell } from "../support/shell.ts";
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

describe.skipIf(!loopDevicesWork())(
  "a loop device that has no room for the stream is refused",
  () => {
    test.each([
      { how: "by its path", line: 'program run pipe="$DEVICE" size=17M "$@"', room: 16 * MiB },
      {
        how: "as standard output",
        line: 'program run pipe=- size=17M "$@" 1<> "$DEVICE"',
        room: 16 * MiB,
      },
      {
        how: "behind its position",
        line: '{ head -c 1M /dev/zero; program run pipe=- size=16M "$@"; } 1<> "$DEVICE"',
        room: 15 * MiB,
      },
      { how: "for an image", line: 'program run pipe="$DEVICE" "$IMAGE"', room: 16 * MiB },
    ])("$how", async ({ line, room }) => {
      const image = await rawImage(folder.file("larger.raw"), 17 * MiB);
      await using device = await loopDevice();
      const env = { DEVICE: device.path, IMAGE: image.path };
      const { status, stderr } = await shell(line, ["--", "echo started >&2"], { env });
      expect(status, stderr).toBe(3);
      expect(stderr).toMatch(
        new RegExp(`cannot be used: it has ${room} bytes.*, and the stream has 1[67]`),
      );
      expect(stderr).not.toContain("started");
      expect((await device.content()).subarray(MiB).equals(before.subarray(MiB))).toBeTrue();
    });

    test("but not when it just fits", async () => {
      await using device = await loopDevice();
      const words = ["run", `pipe=${device.path}`, "size=16M", ...qemuIo("write -P 1 15M 1M")];
      expect(await runProgram(words)).toMatchObject({ status: 0 });
      const expected = Buffer.alloc(16 * MiB).fill(1, 15 * MiB);
      expect((await device.content()).equals(expected)).toBeTrue();
    });

    test("and check tells it", async () => {
      await using device = await loopDevice();
      const { status, stdout } = await runProgram(["check", `pipe=${device.path}`, "size=17M"]);
      expect(status).toBe(3);
      expect(stdout).toMatch(/failed +room +16777216 bytes, and the stream has 17825792/);
    });
  },
);

describe.skipIf(!loopDevicesWork())("a loop device that is in use", () => {
  /** Mounts it where the name of the place has to be written in a way of its own. Nothing writes to it then. */
  async function mounted(stack: AsyncDisposableStack) {
    const scratch = stack.use(tempFolder());
    const device = stack.use(await loopDevice());
    const place = scratch.file("a place");
    mkdirSync(place);
    await command(["mkfs.ext4", "-q", device.path]);
    await command(["mount", "-t", "ext4", "-o", "ro", device.path, place]);
    stack.defer(() => command(["umount", place]).then(() => {}));
    return { device, place };
  }

  test.skipIf(!mountsWork()).each([
    { how: "by its path", line: 'program run pipe="$DEVICE" size=1M "$@"' },
    { how: "as standard output", line: 'program run pipe=- size=1M "$@" > "$DEVICE"' },
    { how: "as a descriptor", line: 'program serve pipe=fd:3 -U "$DEVICE.sock" 3<> "$DEVICE"' },
  ])(
    "because it is mounted is refused before anything is written, $how (skipped where nothing can be mounted)",
    async ({ line }) => {
      await using stack = new AsyncDisposableStack();
      const { device, place } = await mounted(stack);
      const was = await device.content();
      const env = { DEVICE: device.path };
      const { status, stderr } = await shell(line, ["--", "echo started >&2"], { env });
      expect(status, stderr).toBe(3);
      expect(stderr).toContain(
        `cannot be used: it is in use: mounted at ${place}; if it is the right`,
      );
      expect(stderr).not.toContain("started");
      expect((await device.content()).equals(was)).toBeTrue();
    },
  );

  test.skipIf(!mountsWork())(
    "because it is mounted is told by check (skipped where nothing can be mounted)",
    async () => {
      await using stack = new AsyncDisposableStack();
      const { device, place } = await mounted(stack);
      for (const target of [device.path, "fd:3"]) {
        const line = `program check pipe=${target} 3> "$DEVICE"`;
        const { status, stdout } = await shell(line, [], { env: { DEVICE: device.path } });
        expect(status).toBe(3);
        expect(stdout).toMatch(new RegExp(`failed +use +it is in use: mounted at ${place}`));
      }
    },
  );

  test.skipIf(!mountsWork() || Bun.which("partx") === null)(
    "by its partition is refused, and so is a partition of a mounted disk (skipped where nothing can be mounted)",
    async () => {
      await using stack = new AsyncDisposableStack();
      const scratch = stack.use(tempFolder());
      const device = stack.use(await loopDevice(partitionTable()));
      await command(["partx", "--add", device.path]);
      // It would be there for the next file behind this device, too.
      stack.defer(() => command(["partx", "--delete", device.path]).then(() => {}));
      const name = `${basename(device.path)}p1`;
      // Not where udev makes it, which may be nowhere.
      const partition = scratch.file("partition");
      const number = readFileSync(`/sys/class/block/${name}/dev`, "latin1").trim().split(":");
      await command(["mknod", partition, "b", ...number]);
      const place = scratch.file("place");
      mkdirSync(place);
      for (const [inner, outer, says] of [
        [partition, device.path, `its partition ${name} is mounted at `],
        [device.path, partition, "its disk is mounted at "],
      ] as const) {
        await command(["mkfs.ext4", "-q", "-F", inner]);
        await command(["mount", "-t", "ext4", inner, place]);
        try {
          const ended = await runProgram(["run", `pipe=${outer}`, "--", "true"]);
          expect(ended.status, ended.stderr).toBe(3);
          expect(ended.stderr).toContain(`it is in use: ${says}${place}; `);
        } finally {
          await command(["umount", place]);
        }
      }
    },
  );

  test("because another program has claimed it is refused", async () => {
    await using device = await loopDevice();
    using fds = new Descriptors();
    fds.keep(open(device.path, O_RDONLY | O_EXCL));
    const { status, stderr } = await runProgram(["run", `pipe=${device.path}`, "--", "true"]);
    expect(status).toBe(3);
    expect(stderr).toContain("it is in use: by the system or another program; ");
  });

  test.each([
    { how: "by its path", line: 'program run pipe="$DEVICE" "$@"' },
    { how: "as standard output", line: 'program run pipe=- "$@" > "$DEVICE"' },
  ])("by a stream is claimed until that has ended, $how", async ({ line }) => {
    await using device = await loopDevice();
    using scratch = tempFolder();
    const gate = scratch.file("gate");
    const client = `echo started >&2; until [ -e ${quoted(gate)} ]; do sleep 0.02; done; exit 3`;
    const claim = () => {
      using fds = new Descriptors();
      fds.keep(open(device.path, O_RDONLY | O_EXCL));
    };
    claim();
    const env = { DEVICE: device.path };
    await using program = startShell(line, ["--", client], { env });
    await program.saying(/started/);
    expect(claim).toThrow("Device or resource busy");
    writeFileSync(gate, "");
    await program.ended();
    claim();
  });
});

/** One partition of 8 MiB, from 1 MiB on, in the oldest form of it. */
function partitionTable(): Buffer {
  const disk = Buffer.alloc(16 * MiB);
  disk.writeUInt8(0x83, 446 + 4);
  disk.writeUInt32LE(MiB / 512, 446 + 8);
  disk.writeUInt32LE((8 * MiB) / 512, 446 + 12);
  disk.writeUInt16LE(0xaa55, 510);
  return disk;
}

/** A loop device of 16 MiB. */
async function loopDevice(
  contents: Uint8Array = before,
): Promise<AsyncDisposable & { path: string; content(): Promise<Buffer> }> {
  const scratch = tempFolder();
  const file = scratch.file("device");
  writeFileSync(file, contents);
  const path = (await command(["losetup", "--find", "--show", file])).trim();
  return {
    path,
    async content() {
      // The device's own cache goes to the file before anybody looks there.
      await command(["blockdev", "--flushbufs", path]);
      return readFileSync(file);
    },
    async [Symbol.asyncDispose]() {
      await command(["losetup", "--detach", path]);
      scratch[Symbol.dispose]();
    },
  };
}

/** Runs `run` into a fresh device of 16 MiB. @returns how it ended, and what is then in the device */
async function onLoopDevice(words: readonly string[]) {
  await using device = await loopDevice();
  const ended = await runProgram(["run", `pipe=${device.path}`, ...words]);
  return { ended, content: await device.content() };
}

function mountsWork(): boolean {
  if (Bun.which("mkfs.ext4") === null) return false;
  const lines = ["mount -t tmpfs none /mnt", "grep -qw ext4 /proc/filesystems || modprobe ext4"];
  return Bun.spawnSync(["unshare", "-m", "sh", "-ec", lines.join("; ")]).success;
}
