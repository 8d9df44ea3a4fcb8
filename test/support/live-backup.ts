/** The steps of a backup of a running machine, as docs/live-vm.md has them, for any number of disks. */
import { rmSync } from "node:fs";
import type { Machine } from "./machine.ts";
import { command } from "./program.ts";

/** Where the machine's own NBD server listens, in its folder. */
const SHOWN = "nbd.sock";

/** Shows all disks of a machine as they are at this instant: each is an export of its name. */
export async function show({ qmp, disks, ...machine }: Machine, socket = SHOWN): Promise<void> {
  for (const disk of disks) {
    const overlay = `${disk}-then.qcow2`;
    const size = await sizeOf(qmp, disk);
    const make = ["qemu-img", "create", "-q", "-f", "qcow2", overlay, String(size)];
    await command(make, { cwd: machine.folder });
    await qmp.execute("blockdev-add", {
      driver: "qcow2",
      "node-name": `${disk}-then`,
      file: { driver: "file", filename: overlay },
      backing: disk,
    });
  }
  await begin(
    qmp,
    disks.map((disk) => ({
      "job-id": `${disk}-then-job`,
      device: disk,
      target: `${disk}-then`,
      sync: "none",
    })),
  );
  const addr = { type: "unix", data: { path: socket } };
  await qmp.execute("nbd-server-start", { addr });
  for (const disk of disks) {
    const shown = { type: "nbd", id: `${disk}-export`, "node-name": `${disk}-then`, name: disk };
    await qmp.execute("block-export-add", shown);
  }
}

/** Ends what {@link show} has begun, and removes the overlays. */
export async function hide({ qmp, disks, ...machine }: Machine): Promise<void> {
  await qmp.execute("nbd-server-stop");
  for (const disk of disks) {
    const device = `${disk}-then-job`;
    await qmp.execute("block-job-cancel", { device });
    await qmp.event("BLOCK_JOB_CANCELLED", { device });
    await qmp.execute("blockdev-del", { "node-name": `${disk}-then` });
    rmSync(`${machine.folder}/${disk}-then.qcow2`);
  }
}

/** Has the machine open the exports of a server of ours: each disk's is the node `DISK-push`. */
export async function openExports({ qmp, disks }: Machine, path: string): Promise<void> {
  const server = { type: "unix", path };
  for (const disk of disks) {
    const node = { driver: "nbd", "node-name": `${disk}-push`, export: disk, server };
    await qmp.execute("blockdev-add", node);
  }
}

/** Closes them, as a client does that has done all. */
export async function closeExports({ qmp, disks }: Machine): Promise<void> {
  for (const disk of disks) await qmp.execute("blockdev-del", { "node-name": `${disk}-push` });
}

/** Begins jobs of `blockdev-backup` at one instant. */
export async function begin(
  qmp: Machine["qmp"],
  jobs: readonly Readonly<Record<string, unknown>>[],
): Promise<void> {
  await qmp.execute("transaction", {
    actions: jobs.map((data) => ({ type: "blockdev-backup", data })),
  });
}

async function sizeOf(qmp: Machine["qmp"], disk: string): Promise<number> {
  type Node = { "node-name": string; image: { "virtual-size": number } };
  const nodes = await qmp.execute<Node[]>("query-named-block-nodes", { flat: true });
  const node = nodes.find((candidate) => candidate["node-name"] === disk);
  if (node === undefined) throw new Error(`there is no ${disk}`);
  return node.image["virtual-size"];
}
