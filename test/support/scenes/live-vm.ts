/** What docs/live-vm.md has, with a real machine: its guest writes meanwhile. */
import { expect } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { documentedBlock, documentedSource } from "../documented.ts";
import { MACHINE_NEEDS } from "../machine.ts";
import { ModelledMachine } from "../machine-disks.ts";
import { AS_NOBODY, noNobody } from "../nobody.ts";
import { type Ended, eventually } from "../program.ts";
import type { Scene, Stage } from "./stage.ts";

const MiB = 1024 * 1024;
const DOCUMENT = "docs/live-vm.md";
const SIZES = { vda: 64 * MiB, vdb: 32 * MiB };
const NEEDS = [...MACHINE_NEEDS, "python3"];

/** What is in each block, and in no other. */
const PROGRAM = "cat > qmp.py";
const BEGIN = `"vdb-export"`;
const STREAM = `uri_vdb" && wait`;
const BORG = "borg create";
const RESTIC = "restic backup";
const NBDCOPY = "nbdcopy";
const COMPARE = "qemu-img compare";
const END = `{"event": "BLOCK_JOB_CANCELLED", "job": "vda-job"}`;
const RESTORE = "size=64M vda-restored.qcow2";
const FILTER = `"copy-before-write"`;
const FILTER_END = `"value": "vda"}}`;
const INCREMENT = `"sync": "bitmap"`;
const CHANGED_BEGIN = `"bitmaps": ["since-0"]}}`;
const CHANGED = "x-dirty-bitmap";
const CHANGED_GOOD = `"name": "since-0"}}\nEND`;
const CHANGED_BAD = "block-dirty-bitmap-merge";
const JOINED = "zstd -q -d vda.1.qcow2.zst";
const PUSH = "vdb-push";
const MIRROR = "blockdev-mirror";
const LIBVIRT = "backup-begin";

/** The machine of a scene, and what its disks were at the instant of the backup. */
class Live {
  #guest: ModelledMachine | undefined;
  then: Record<string, Buffer> = {};

  get guest(): ModelledMachine {
    return this.#guest as ModelledMachine;
  }

  /** A machine with data on its disks, and the page's program. */
  async start(stage: Stage): Promise<void> {
    this.#guest = stage.use(await ModelledMachine.start(stage.cwd, SIZES));
    await this.guest.write("vda", 0, MiB, 1);
    await this.guest.write("vda", 40 * MiB, 3 * MiB, 2);
    await this.guest.write("vdb", 31 * MiB, MiB, 3);
    this.then = this.guest.instant();
    await run(stage, PROGRAM);
  }

  /** The guest writes over some of that, and elsewhere. */
  async overwrite(): Promise<void> {
    for (const [disk, at] of [
      ["vda", 512 * 1024],
      ["vda", 41 * MiB],
      ["vda", 20 * MiB],
      ["vdb", 31 * MiB],
    ] as const) {
      expect((await this.guest.write(disk, at, 200_704, 200)).failed).toBeFalse();
    }
  }

  /** As far as the block that shows the disks, and the guest has gone on. */
  async begin(stage: Stage): Promise<void> {
    await this.start(stage);
    await run(stage, BEGIN);
    await this.overwrite();
  }

  /** Expects a disk of the instant to be what a command line prints. */
  async expectPrinted(stage: Stage, disk: string, line: string): Promise<void> {
    writeFileSync(stage.file("then"), this.then[disk] as Buffer);
    await stage.shell(`${line} | cmp - then`);
  }

  /** Expects the exports to show a disk as it was. */
  async expectShown(stage: Stage, disk: string): Promise<void> {
    const uri = `nbd+unix:///${disk}?socket=nbd.sock`;
    await this.expectPrinted(stage, disk, `nbdcopy --synchronous '${uri}' -`);
  }

  /** Ends the machine, and expects its own disks to have what its guest has written. */
  async expectUnharmed(): Promise<void> {
    expect(await this.guest.lost()).toEqual([]);
  }
}

/** Runs another block of the page, which must succeed. */
function run(stage: Stage, block: string): Promise<string> {
  return stage.shell(`set -e\n${documentedBlock(DOCUMENT, block).text}`);
}

interface LiveScene extends Pick<
  Scene,
  "title" | "block" | "needs" | "env" | "status" | "commands"
> {
  readonly before?: (stage: Stage, live: Live) => Promise<unknown>;
  readonly during?: (stage: Stage, live: Live) => Promise<unknown>;
  readonly after: (stage: Stage, live: Live, ended: Ended) => Promise<unknown>;
}

/** A scene that has a machine; the default is one whose disks are shown already. */
function scene({ before, during, after, needs = [], ...rest }: LiveScene): Scene {
  const live = new Live();
  return {
    ...rest,
    document: DOCUMENT,
    needs: [...NEEDS, ...needs],
    before: (stage) => (before === undefined ? live.begin(stage) : before(stage, live)),
    ...(during === undefined ? {} : { during: (stage: Stage) => during(stage, live) }),
    after: (stage, ended) => after(stage, live, ended),
  };
}

/** Makes a full backup and the bitmap that begins with it, and has the guest write more. */
async function withFull(stage: Stage, live: Live): Promise<void> {
  await live.start(stage);
  const bitmap = { node: "vda", name: "since-0", persistent: true };
  await live.guest.machine.qmp.execute("block-dirty-bitmap-add", bitmap);
  writeFileSync(stage.file("vda.raw"), live.then.vda as Buffer);
  await stage.shell("zstd -q vda.raw && rm vda.raw");
  await live.overwrite();
  live.then = live.guest.instant();
}

/** Shows what has changed since, and the guest goes on, also where nothing had changed. */
async function withChanges(stage: Stage, live: Live): Promise<void> {
  await withFull(stage, live);
  await run(stage, CHANGED_BEGIN);
  await live.guest.write("vda", 41 * MiB, 65536, 201);
  await live.guest.write("vda", 50 * MiB, 65536, 202);
}

/** The end of a backup of the first disk alone. */
async function endOf({ guest }: Live): Promise<void> {
  const { qmp } = guest.machine;
  await qmp.execute("nbd-server-stop");
  await qmp.execute("block-job-cancel", { device: "vda-job" });
  await qmp.event("BLOCK_JOB_CANCELLED", { device: "vda-job" });
}

/** The bitmaps of the machine's first disk. */
async function bitmaps({ guest }: Live): Promise<string[]> {
  type Node = { "node-name": string; "dirty-bitmaps"?: { name: string }[] };
  const { qmp } = guest.machine;
  const nodes = await qmp.execute<Node[]>("query-named-block-nodes", { flat: true });
  const disk = nodes.find((node) => node["node-name"] === "vda");
  return (disk?.["dirty-bitmaps"] ?? []).map(({ name }) => name).toSorted();
}

/** Both disks are there, as they were at one instant, and nothing has happened to the guest. */
const expectCompressed: LiveScene["after"] = async (stage, live, { stderr }) => {
  expect(stderr).toEndWith("nbd-streaming: 2 of 2 streams complete\n");
  for (const disk of ["vda", "vdb"]) {
    await live.expectPrinted(stage, disk, `zstd -dc ${disk}.raw.zst`);
  }
  await live.expectUnharmed();
};

const LIVE_SCENES: readonly LiveScene[] = [
  {
    block: PROGRAM,
    title: "makes a program that executes commands up to the first that fails",
    before: async (stage, live) => {
      await live.start(stage);
      await stage.shell("rm qmp.py");
    },
    async after(stage) {
      const [good, bad] = [`{"execute": "query-status"}`, `{"execute": "no-such-command"}`];
      await stage.shell(`echo '${good} ${good}' | python3 qmp.py qmp.sock`);
      await stage.shell(`! echo '${bad} {"execute": "quit"}' | python3 qmp.py qmp.sock`);
      await stage.shell(`echo '${good}' | python3 qmp.py qmp.sock`);
    },
  },
  {
    block: BEGIN,
    title: "shows both disks as they were, whatever the guest writes",
    needs: ["nbdcopy"],
    before: (stage, live) => live.start(stage),
    async after(stage, live) {
      await live.overwrite();
      await live.expectShown(stage, "vda");
      await live.expectShown(stage, "vdb");
    },
  },
  {
    block: STREAM,
    title: "compresses both disks of one instant",
    needs: ["zstd"],
    after: expectCompressed,
  },
  {
    block: BORG,
    title: "makes an archive of borg for each disk",
    needs: ["borg"],
    env: { BORG_REPO: "repository" },
    async before(stage, live) {
      await live.begin(stage);
      await stage.shell("borg init --encryption none");
    },
    async after(stage, live) {
      for (const disk of ["vda", "vdb"]) {
        const line = `borg extract --stdout "::$(borg list --short | grep ^${disk}-)"`;
        await live.expectPrinted(stage, disk, line);
      }
    },
  },
  {
    block: RESTIC,
    title: "makes a snapshot of restic for each disk",
    needs: ["restic"],
    env: { RESTIC_REPOSITORY: "repository", RESTIC_PASSWORD: "secret" },
    async before(stage, live) {
      await live.begin(stage);
      await stage.shell("restic init");
    },
    async after(stage, live) {
      expect(await stage.shell("restic snapshots --compact")).toContain("2 snapshots");
      const source = documentedSource(DOCUMENT, "restic");
      for (const disk of ["vda", "vdb"]) {
        await live.expectPrinted(stage, disk, source.replaceAll("vda", disk));
      }
    },
  },
  {
    block: NBDCOPY,
    title: "is read by nbdcopy",
    needs: ["zstd", "nbdcopy"],
    after: (stage, live) => live.expectPrinted(stage, "vda", "zstd -dc vda.raw.zst"),
  },
  {
    block: COMPARE,
    title: "finds a backup to be the disk that is shown",
    needs: ["zstd"],
    before: async (stage, live) => {
      await live.begin(stage);
      await run(stage, STREAM);
    },
    after: async (_, __, { stdout }) => expect(stdout).toContain("Images are identical."),
  },
  {
    block: END,
    title: "ends the jobs, and leaves the disks as the guest has written them",
    async after(stage, live) {
      expect(existsSync(stage.file("vda-then.qcow2"))).toBeFalse();
      await live.overwrite();
      await run(stage, BEGIN);
      await live.expectUnharmed();
    },
  },
  {
    block: RESTORE,
    title: "makes an image of the backup",
    needs: ["zstd"],
    before: async (stage, live) => {
      await live.begin(stage);
      await run(stage, STREAM);
    },
    async after(stage, live) {
      await stage.shell("qemu-img convert -O raw vda-restored.qcow2 restored");
      await live.expectPrinted(stage, "vda", "cat restored");
    },
  },
  {
    block: FILTER,
    title: "shows the disk as it was, by the filter",
    needs: ["nbdcopy"],
    before: (stage, live) => live.start(stage),
    async after(stage, live) {
      await live.overwrite();
      await live.expectShown(stage, "vda");
    },
  },
  {
    block: FILTER_END,
    title: "takes the filter out again",
    before: async (stage, live) => {
      await live.start(stage);
      await run(stage, FILTER);
      await live.overwrite();
    },
    async after(_, live) {
      await live.overwrite();
      await live.expectUnharmed();
    },
  },
  {
    block: CHANGED_BEGIN,
    title: "begins another bitmap, and shows the old one",
    before: withFull,
    async after(stage, live) {
      expect(await bitmaps(live)).toEqual(["since-0", "since-1"]);
      await live.expectShown(stage, "vda");
    },
  },
  {
    block: CHANGED,
    title: "streams what has changed as a qcow2, which gives the disk with the full backup",
    needs: ["zstd"],
    before: (stage, live) => withChanges(stage, live),
    async after(stage, live) {
      expect(statSync(stage.file("vda.1.qcow2.zst")).size).toBeLessThan(MiB);
      await run(stage, JOINED);
      await stage.shell("qemu-img convert -O raw vda-restored.qcow2 restored");
      await live.expectPrinted(stage, "vda", "cat restored");
    },
  },
  {
    block: CHANGED_GOOD,
    title: "goes on with the new bitmap",
    before: (stage, live) => withChanges(stage, live).then(() => endOf(live)),
    after: async (_, live) => expect(await bitmaps(live)).toEqual(["since-1"]),
  },
  {
    block: CHANGED_BAD,
    title: "goes on with the old bitmap, which has both",
    before: (stage, live) => withChanges(stage, live).then(() => endOf(live)),
    async after(_, live) {
      expect(await bitmaps(live)).toEqual(["since-0"]);
      const { machine } = live.guest;
      const sum = { node: "vda", name: "since-0" };
      type Digest = { sha256: string };
      const digest = () => machine.qmp.execute<Digest>("x-debug-block-dirty-bitmap-sha256", sum);
      const before = await digest();
      // What was recorded by the other is in it, and it records again.
      await live.guest.write("vda", 50 * MiB, 65536, 7);
      expect(await digest()).toEqual(before);
      await live.guest.write("vda", 52 * MiB, 65536, 7);
      expect(await digest()).not.toEqual(before);
    },
  },
  {
    block: INCREMENT,
    title: "goes on with the old bitmap if the sink fails",
    needs: ["zstd"],
    before: withFull,
    commands: {
      zstd: `case "$*" in *-o*) cat > /dev/null; exit 3;; *) exec ${Bun.which("zstd")} "$@";; esac\n`,
    },
    after: async (_, live) => expect(await bitmaps(live)).toEqual(["since-0"]),
  },
  {
    block: JOINED,
    title: "makes an image of the full backup and what has changed",
    needs: ["zstd"],
    before: async (stage, live) => {
      await withFull(stage, live);
      await run(stage, INCREMENT);
      expect(await bitmaps(live)).toEqual(["since-1"]);
      await live.overwrite();
    },
    async after(stage, live) {
      await stage.shell("qemu-img convert -O raw vda-restored.qcow2 restored");
      await live.expectPrinted(stage, "vda", "cat restored");
    },
  },
  {
    block: PUSH,
    title: "has QEMU write both disks of one instant",
    needs: ["zstd"],
    before: (stage, live) => live.start(stage),
    after: expectCompressed,
  },
  {
    block: MIRROR,
    title: "has QEMU mirror the disk up to its end",
    needs: ["zstd"],
    before: (stage, live) => live.start(stage),
    async after(stage, live) {
      await live.expectPrinted(stage, "vda", "zstd -dc vda.raw.zst");
      await live.expectUnharmed();
    },
  },
];

/** libvirt's daemon for one user cannot be root's. */
const USER = process.getuid?.() === 0 ? [...AS_NOBODY, "--regid", "65534"] : [];
const SESSION = ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"];
const SESSION_LINE = `${USER.join(" ")} env ${SESSION.map((name) => `${name}="$PWD/session"`).join(" ")}`;
/** It is not the user who writes the descriptions, so they have to be readable, whatever umask is. */
const VIRSH = `chmod a+r ./*.xml && exec ${SESSION_LINE} ${Bun.which("virsh")} -q -c qemu:///session "$@"\n`;

const DOMAIN = (folder: string) => `
<domain type="qemu">
  <name>machine</name>
  <memory unit="MiB">16</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices>
    <emulator>${Bun.which("qemu-system-x86_64")}</emulator>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
    ${["vda", "vdb"]
      .map(
        (disk) => `<disk type="file" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source file="${folder}/${disk}.qcow2"/>
      <target dev="${disk}" bus="virtio"/>
    </disk>`,
      )
      .join("\n")}
  </devices>
</domain>`;

/** Starts a daemon of libvirt, and a machine with two disks that never runs. */
async function withDomain(stage: Stage): Promise<void> {
  await stage.shell(
    `for disk in vda:64M vdb:32M; do qemu-img create -q -f qcow2 \${disk%:*}.qcow2 \${disk#*:}; done
     qemu-io -f qcow2 -c "write -P 1 0 1M" vda.qcow2; qemu-io -f qcow2 -c "write -P 3 31M 1M" vdb.qcow2`,
  );
  writeFileSync(stage.file("machine.xml"), DOMAIN(stage.cwd));
  mkdirSync(stage.file("session"));
  if (USER.length > 0) {
    chmodSync(dirname(stage.cwd), 0o711);
    for (const name of [".", "vda.qcow2", "vdb.qcow2", "session"]) {
      chownSync(stage.file(name), 65534, 65534);
    }
  }
  stage.start(["bash", "-c", `exec ${SESSION_LINE} libvirtd`]);
  const listens = () => existsSync(stage.file("session/libvirt/libvirt-sock"));
  await eventually(listens, "libvirt's daemon to listen");
  await stage.shell("virsh create --paused machine.xml");
  stage.use({ [Symbol.asyncDispose]: () => stage.shell("virsh destroy machine").then(() => {}) });
}

const LIBVIRT_SCENE: Scene = {
  document: DOCUMENT,
  block: LIBVIRT,
  title: "has libvirt show both disks, until they are streamed",
  // Who cannot have a daemon of nobody's is told so as of a program that is missing.
  needs: [
    ...[...NEEDS, "zstd", "virsh", "libvirtd"],
    ...(USER.length > 0 && noNobody !== undefined ? [noNobody] : []),
  ],
  commands: { virsh: VIRSH },
  before: withDomain,
  async after(stage) {
    const { text } = documentedBlock(DOCUMENT, STREAM);
    await stage.shell(text);
    for (const [disk, size, at, byte] of [
      ["vda", 64, 0, 1],
      ["vdb", 32, 31, 3],
    ] as const) {
      const whole = Buffer.alloc(size * MiB).fill(byte, at * MiB, (at + 1) * MiB);
      await stage.shell(`zstd -q -d ${disk}.raw.zst`);
      expect(readFileSync(stage.file(`${disk}.raw`)).equals(whole)).toBeTrue();
    }
    expect(existsSync(stage.file("vda.scratch"))).toBeTrue();
    await stage.shell("virsh domjobabort machine");
    for (const name of ["nbd.sock", "vda.scratch", "vdb.scratch"]) {
      await eventually(() => !existsSync(stage.file(name)), `${name} to be gone`);
    }
  },
};

export const LIVE_VM: readonly Scene[] = [...LIVE_SCENES.map(scene), LIBVIRT_SCENE];
