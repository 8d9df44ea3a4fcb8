/** The machine that tests of live backups start is one: its disks take what its guest would write. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { LIMIT } from "./limit.ts";
import { Machine, MACHINE_MISSING } from "./machine.ts";
import { command } from "./program.ts";
import { QmpError } from "./qmp.ts";
import { tempFolder } from "./temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const why = MACHINE_MISSING.length > 0 ? ` (needs ${MACHINE_MISSING.join(", ")})` : "";

test.skipIf(why !== "")(`a machine writes its disks, and reads them back${why}`, async () => {
  using folder = tempFolder();
  await Machine.makeDisks(folder.path, { vda: 4 * MiB, vdb: MiB });
  await using machine = await Machine.start(folder.path, ["vda", "vdb"]);
  expect((await machine.write("vda", MiB, 65536, 7)).failed).toBeFalse();
  expect((await machine.write("vdb", 0, 512, 8)).failed).toBeFalse();
  expect(await machine.reads("vda", MiB, 65536, 7)).toBeTrue();
  expect(await machine.reads("vda", MiB, 65536, 8)).toBeFalse();
  expect(await machine.reads("vdb", 0, 512, 8)).toBeTrue();
  expect(await machine.reads("vdb", 512, 512, 0)).toBeTrue();
  await machine.quit();
  const [vda, raw] = [folder.file("vda.qcow2"), folder.file("vda.raw")];
  await command(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", vda, raw]);
  const disk = Buffer.from(await Bun.file(raw).arrayBuffer());
  expect(disk.equals(Buffer.alloc(4 * MiB).fill(7, MiB, MiB + 65536))).toBeTrue();
});

test.skipIf(why !== "")(
  `a monitor refuses with its own words, and tells events${why}`,
  async () => {
    using folder = tempFolder();
    await Machine.makeDisks(folder.path, { vda: MiB });
    await using machine = await Machine.start(folder.path, ["vda"]);
    const refused = machine.qmp.execute("blockdev-del", { "node-name": "vda" });
    expect(await refused.catch((error: unknown) => error)).toBeInstanceOf(QmpError);
    await machine.qmp.execute("blockdev-add", {
      driver: "null-co",
      "node-name": "nowhere",
      size: MiB,
      "read-zeroes": true,
    });
    const backup = { "job-id": "copy", device: "vda", target: "nowhere", sync: "full" };
    await machine.qmp.execute("blockdev-backup", backup);
    const { data } = await machine.qmp.event("BLOCK_JOB_COMPLETED", { device: "copy" });
    expect(data.error).toBeUndefined();
  },
);
