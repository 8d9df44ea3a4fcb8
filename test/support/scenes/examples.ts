/** What examples/README.md has, with a real machine. */
import { expect } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { documentedSource } from "../documented.ts";
import { MACHINE_NEEDS } from "../machine.ts";
import { ModelledMachine } from "../machine-disks.ts";
import { ROOT } from "../program.ts";
import type { Scene, Stage } from "./stage.ts";

const MiB = 1024 * 1024;
const DISKS = ["vda", "vdb"];
const DOCUMENT = "examples/README.md";
const VM_BACKUP = join(ROOT, "examples/vm-backup");

/** The machine of the scene that is played. */
let guest: ModelledMachine;

/** A machine with data on its disks, which have changed a while ago. */
async function withMachine(stage: Stage): Promise<void> {
  guest = stage.use(await ModelledMachine.start(stage.cwd, { vda: 8 * MiB, vdb: 4 * MiB }));
  await guest.write("vda", MiB, MiB, 1);
  await guest.write("vdb", 3 * MiB, MiB, 2);
  keepInstant(stage);
}

/** One whose disks are more than pipes hold: commands that wait for each other would wait for ever. */
async function withLargeMachine(stage: Stage): Promise<void> {
  const size = 32 * MiB;
  guest = stage.use(await ModelledMachine.start(stage.cwd, { vda: size, vdb: size }));
  for (const [i, disk] of DISKS.entries()) await guest.write(disk, 0, size, i + 1);
  keepInstant(stage);
}

function keepInstant(stage: Stage): void {
  for (const disk of DISKS)
    writeFileSync(stage.file(`${disk}.then`), guest.instant()[disk] as Buffer);
}

function scene(rest: Omit<Scene, "document">): Scene {
  const { needs = [], commands = {} } = rest;
  return {
    before: withMachine,
    ...rest,
    document: DOCUMENT,
    needs: [...MACHINE_NEEDS, "python3", ...needs],
    // Overlays belong into TMPDIR here.
    commands: { "vm-backup": `exec ${VM_BACKUP} --scratch "$TMPDIR" "$@"\n`, ...commands },
  };
}

/** Expects a command line, in which $disk is the name, to print each disk as it was. */
async function expectPrinted(stage: Stage, line: string): Promise<void> {
  for (const disk of DISKS) await stage.shell(`disk=${disk}; ${line} | cmp - ${disk}.then`);
  expect(readdirSync(stage.temporary)).toEqual([]);
}

export const EXAMPLES: readonly Scene[] = [
  scene({
    block: "zstd -q -o",
    title: "compresses both disks",
    needs: ["zstd"],
    after: (stage) => expectPrinted(stage, "zstd -dc $disk.raw.zst"),
  }),
  scene({
    block: "restic backup",
    title: "makes a snapshot of restic for each disk",
    needs: ["restic"],
    env: { RESTIC_REPOSITORY: "repository", RESTIC_PASSWORD: "secret" },
    async before(stage) {
      await withMachine(stage);
      await stage.shell("restic init");
    },
    after: (stage) =>
      expectPrinted(stage, documentedSource(DOCUMENT, "restic").replaceAll("vda", "$disk")),
  }),
  scene({
    block: "borg create",
    title: "makes an archive of borg for each disk",
    needs: ["borg"],
    async before(stage) {
      await withLargeMachine(stage);
      await stage.shell("for disk in vda vdb; do borg init --encryption none borg-$disk; done");
    },
    after: (stage) =>
      expectPrinted(stage, `borg extract --stdout "borg-$disk::$(borg list --short borg-$disk)"`),
  }),
  scene({
    block: "vda-restored.qcow2",
    title: "makes an image of the backup",
    needs: ["zstd"],
    async before(stage) {
      await withMachine(stage);
      await stage.shell("zstd -q vda.then -o vda.raw.zst");
    },
    replaced: () => [["size=10G", "size=8M"]],
    after: (stage) => stage.shell("qemu-img compare -f qcow2 -F raw vda-restored.qcow2 vda.then"),
  }),
  scene({
    block: "--clean qmp.sock\n",
    title: "removes what a killed backup has left",
    async before(stage) {
      await withMachine(stage);
      // It kills the backup that has started it.
      const line = `vm-backup qmp.sock 'kill -KILL "$(cat pid)"; cat > /dev/null'`;
      await stage.shell(`! (sh -c 'echo $PPID > pid'; exec ${line})`);
      expect(readdirSync(stage.temporary)).toHaveLength(1);
    },
    after(stage, { stderr }) {
      expect(stderr).toContain("removed what a killed one had left");
      expect(readdirSync(stage.temporary)).toEqual([]);
      expect(existsSync(stage.file("vda.qcow2"))).toBeTrue();
    },
  }),
];
