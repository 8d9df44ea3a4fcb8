import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { mkfifo } from "../../ffi/pipe.ts";
import { exportCommand, imageSize } from "../../src/captive/qemu-img.ts";
import { UserError } from "../../src/errors.ts";
import { command, eventually, start } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";
import { LIMIT } from "../support/limit.ts";

setDefaultTimeout(LIMIT);

const NEVER = new AbortController().signal;

async function qcow2(path: string, size: string): Promise<void> {
  await command(["qemu-img", "create", "-q", "-f", "qcow2", path, size]);
}

/** The error with which the size of an image is refused. */
async function refusal(image: string, format?: string): Promise<UserError> {
  const error: unknown = await imageSize(image, format, NEVER).catch((error: unknown) => error);
  if (!(error instanceof UserError)) throw new Error(`no UserError but ${error}`);
  return error;
}

describe("exportCommand", () => {
  test("copies into the stream without making it first", () => {
    expect(exportCommand("disk.qcow2", undefined, "nbd://x/")).toEqual([
      ...["qemu-img", "convert", "-n", "-O", "raw", "--", "disk.qcow2", "nbd://x/"],
    ]);
  });

  test("names the format that is given", () => {
    expect(exportCommand("-x", "vmdk", "nbd://x/")).toEqual([
      ...["qemu-img", "convert", "-n", "-f", "vmdk", "-O", "raw", "--", "-x", "nbd://x/"],
    ]);
  });
});

describe("imageSize", () => {
  test("of a qcow2 image is that of the disk in it", async () => {
    using folder = tempFolder();
    await qcow2(folder.file("disk.qcow2"), "3G");
    expect(await imageSize(folder.file("disk.qcow2"), undefined, NEVER)).toBe(3n << 30n);
    expect(await imageSize(folder.file("disk.qcow2"), "qcow2", NEVER)).toBe(3n << 30n);
  });

  test("of the largest image that qcow2 takes with its usual clusters is exact", async () => {
    using folder = tempFolder();
    await qcow2(folder.file("disk.qcow2"), String(2n ** 51n - 512n));
    expect(await imageSize(folder.file("disk.qcow2"), undefined, NEVER)).toBe(2n ** 51n - 512n);
  });

  test.each([0, 1, 511, 512, 100_001])("of a raw image of %d bytes is exact", async (size) => {
    using folder = tempFolder();
    writeFileSync(folder.file("disk.raw"), Buffer.alloc(size, 7));
    expect(await imageSize(folder.file("disk.raw"), "raw", NEVER)).toBe(BigInt(size));
    expect(await imageSize(folder.file("disk.raw"), undefined, NEVER)).toBe(BigInt(size));
  });

  test("of an image that is to be taken as raw is that of the file", async () => {
    using folder = tempFolder();
    await qcow2(folder.file("disk.qcow2"), "3G");
    const bytes = BigInt(Bun.file(folder.file("disk.qcow2")).size);
    expect(await imageSize(folder.file("disk.qcow2"), "raw", NEVER)).toBe(bytes);
  });

  test("takes a path with a dash, spaces and quotes as it is", async () => {
    using folder = tempFolder();
    const path = folder.file('-my "disk\'s" $nbd.raw');
    writeFileSync(path, Buffer.alloc(1000));
    expect(await imageSize(path, undefined, NEVER)).toBe(1000n);
  });
});

describe("an image that cannot be read", () => {
  test("because it is missing is named with qemu-img's own reason", async () => {
    using folder = tempFolder();
    const path = folder.file("missing.qcow2");
    const error = await refusal(path);
    expect(error).toMatchObject({ code: "ERR_QEMU_IMG", exitStatus: 3 });
    expect(error.message).toStartWith(`cannot read ${path}: qemu-img: `);
    expect(error.message).toEndWith("No such file or directory; check its name");
  });

  test("because it has another format is named", async () => {
    using folder = tempFolder();
    writeFileSync(folder.file("disk.raw"), Buffer.alloc(4096, 7));
    expect((await refusal(folder.file("disk.raw"), "qcow2")).message).toContain("qcow2 format");
  });

  test("because it is missing is not taken for one in use, whatever its name is", async () => {
    using folder = tempFolder();
    const names = ["block.img", "lock", 'Failed to get "write" lock'];
    for (const name of names) {
      const { message } = await refusal(folder.file(name));
      expect(message).toEndWith("No such file or directory; check its name");
    }
  });

  test("because another program has it open is named, and so is the remedy", async () => {
    using folder = tempFolder();
    await qcow2(folder.file("disk.qcow2"), "1M");
    const [socket, pid] = [folder.file("nbd.sock"), folder.file("pid")];
    const words = ["-t", "-k", socket, `--pid-file=${pid}`, folder.file("disk.qcow2")];
    await using _ = start(["qemu-nbd", ...words]);
    // The socket is there before the image is open.
    await eventually(() => existsSync(pid), "qemu-nbd to be ready");
    const { message } = await refusal(folder.file("disk.qcow2"));
    expect(message).toMatch(/; end the program that uses it first, or see docs\/live-vm.md /);
  });

  test("because it is a pipe is refused, and nothing waits for its writer", async () => {
    using folder = tempFolder();
    mkfifo(folder.file("pipe"), 0o600);
    const { message } = await refusal(folder.file("pipe"), "raw");
    expect(message).toEndWith("a pipe is none");
  });

  test("because it is a folder is named", async () => {
    using folder = tempFolder();
    mkdirSync(folder.file("folder"));
    expect(await refusal(folder.file("folder"))).toMatchObject({ code: "ERR_QEMU_IMG" });
  });
});

test("an image whose size takes too long is given up when asked", async () => {
  using folder = tempFolder();
  const stop = new AbortController();
  // It never says a word to qemu-img, which waits.
  const unix = folder.file("nbd.sock");
  const silent = Bun.listen({ unix, socket: { open: () => stop.abort(), data() {} } });
  const size = imageSize(`nbd+unix:///?socket=${unix}`, "raw", stop.signal);
  expect(await size.catch((error: unknown) => error)).toBeInstanceOf(UserError);
  silent.stop(true);
});
