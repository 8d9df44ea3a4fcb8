/** What docs/live-vm.md says of QEMU and of the program beside its command lines, with a real machine. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { documentedBlock } from "../support/documented.ts";
import { LIMIT } from "../support/limit.ts";
import { begin, closeExports, hide, openExports, show } from "../support/live-backup.ts";
import { MACHINE_MISSING } from "../support/machine.ts";
import { ModelledMachine } from "../support/machine-disks.ts";
import { type Ended, type Running, runProgram, startProgram } from "../support/program.ts";
import { shell } from "../support/shell.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIZES = { vda: 16 * MiB, vdb: 8 * MiB };
const ONE = { vda: 16 * MiB };

const why = MACHINE_MISSING.length > 0 ? ` (needs ${MACHINE_MISSING.join(", ")})` : "";
const withMachine = (
  title: string,
  sizes: Readonly<Record<string, number>>,
  body: (guest: ModelledMachine) => Promise<void>,
) =>
  test.skipIf(why !== "")(`${title}${why}`, async () => {
    using folder = tempFolder();
    await using guest = await ModelledMachine.start(folder.path, sizes);
    for (const [disk, size] of Object.entries(sizes)) {
      await guest.write(disk, 0, 3 * MiB, 1);
      await guest.write(disk, size - 2 * MiB, MiB, 2);
    }
    await body(guest);
  });

/** Starts `serve` for the machine's disks, each into the file `DISK.raw`. */
async function serving({ machine, models }: ModelledMachine, words: readonly string[]) {
  const streams = machine.disks.flatMap((disk) => ["-e", disk, `size=${models[disk]?.length}`]);
  const sink = `pipe=exec:cat > "$NBD_STREAMING_EXPORT.raw"`;
  const program = startProgram(
    ["serve", "-U", machine.file("push.sock"), sink, ...words, ...streams],
    { cwd: machine.folder },
  );
  await program.saying(/listening on/);
  await openExports(machine, machine.file("push.sock"));
  return program;
}

/** A job of `blockdev-backup` for each disk. */
function jobs({ machine }: ModelledMachine, more: Readonly<Record<string, unknown>> = {}) {
  return machine.disks.map((disk) => ({
    ...{ "job-id": `${disk}-job`, device: disk, target: `${disk}-push`, sync: "full" },
    ...more,
  }));
}

/** Has the guest write all over its disks: pieces of 64 KiB, from the end to the start. */
async function scatter(guest: ModelledMachine, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    for (const [disk, model] of Object.entries(guest.models)) {
      const at = model.length - 65536 - ((i * 37) % (model.length / 65536)) * 65536;
      expect((await guest.write(disk, at, 65536, 100 + (i % 100))).failed).toBeFalse();
    }
  }
}

/** Waits for the jobs, which must have succeeded, and for the program. */
async function completes(guest: ModelledMachine, program: Running): Promise<Ended> {
  for (const { "job-id": device } of jobs(guest)) {
    const { data } = await guest.machine.qmp.event("BLOCK_JOB_COMPLETED", { device });
    expect(data.error).toBeUndefined();
  }
  await closeExports(guest.machine);
  const ended = await program.ended();
  expect(ended.status, ended.stderr).toBe(0);
  return ended;
}

const output = ({ machine }: ModelledMachine, disk: string) =>
  readFileSync(machine.file(`${disk}.raw`));

function expectOutputs(guest: ModelledMachine, then: Readonly<Record<string, Buffer>>): void {
  for (const [disk, whole] of Object.entries(then)) {
    expect(output(guest, disk).equals(whole), disk).toBeTrue();
  }
}

withMachine(
  "an image of a running machine is refused, and the page is named",
  ONE,
  async (guest) => {
    const { status, stderr } = await runProgram(["run", "pipe=exec:cat > vda.raw", "vda.qcow2"], {
      cwd: guest.machine.folder,
    });
    expect(status, stderr).toBe(3);
    expect(stderr).toMatch(/^[^\n]*"write" lock[^\n]*, or see docs\/live-vm.md [^\n]*\n$/);
  },
);

for (const [how, words, perf] of [
  ["with a window and one worker", ["window=64M"], { "max-workers": 1 }],
  ["with a spool", ["spool=/var/tmp"], undefined],
  ["that is held", ["spool=/var/tmp", "--hold"], undefined],
] as const) {
  withMachine(
    `a push ${how} is all disks of one instant, though the guest writes`,
    SIZES,
    async (guest) => {
      await using program = await serving(guest, words);
      const then = guest.instant();
      // Slowly at first, so that the guest is ahead.
      const slow = { speed: MiB, ...(perf === undefined ? {} : { "x-perf": perf }) };
      await begin(guest.machine.qmp, jobs(guest, slow));
      await scatter(guest, 50);
      for (const { "job-id": device } of jobs(guest)) {
        await guest.machine.qmp.execute("block-job-set-speed", { device, speed: 0 });
      }
      await completes(guest, program);
      expectOutputs(guest, then);
      expect(await guest.lost()).toEqual([]);
    },
  );
}

withMachine("a push out of order is truncated, and told what takes it", ONE, async (guest) => {
  await using program = await serving(guest, []);
  await begin(guest.machine.qmp, jobs(guest, { speed: MiB }));
  // There is data: zeroes far ahead are only noted, and would be in order.
  await guest.write("vda", 14 * MiB, 65536, 9);
  await guest.machine.qmp.execute("block-job-set-speed", { device: "vda-job", speed: 0 });
  const { data } = await guest.machine.qmp.event("BLOCK_JOB_COMPLETED");
  expect(data.error).toBe("Input/output error");
  await closeExports(guest.machine);
  const { status, stderr } = await program.ended();
  expect(status).toBe(4);
  expect(stderr).toContain("spool=DIR takes any order");
});

withMachine("a push is refused by QEMU without the exact size", ONE, async (guest) => {
  for (const words of [[], ["size=17M"]]) {
    const path = guest.machine.file("push.sock");
    const serve = ["serve", "-U", path, "pipe=exec:cat > vda.raw", ...words];
    await using program = startProgram(serve, { cwd: guest.machine.folder });
    await program.saying(/listening on/);
    await openExports(guest.machine, path);
    const refused = begin(guest.machine.qmp, jobs(guest));
    await expect(refused).rejects.toThrow("Source and target image have different sizes");
    await closeExports(guest.machine);
    program.process.kill("SIGTERM");
    await program.ended();
  }
});

withMachine(
  "a push that is cancelled leaves in order, and only size= can tell",
  ONE,
  async (guest) => {
    await using program = await serving(guest, ["spool=/var/tmp"]);
    await begin(guest.machine.qmp, jobs(guest, { speed: 65536 }));
    await guest.machine.qmp.execute("block-job-cancel", { device: "vda-job" });
    await guest.machine.qmp.event("BLOCK_JOB_CANCELLED", { device: "vda-job" });
    await closeExports(guest.machine);
    expect((await program.ended()).status).toBe(4);
  },
);

withMachine(
  "a raw increment passes for a disk if its last block has changed",
  ONE,
  async (guest) => {
    await guest.machine.qmp.execute("block-dirty-bitmap-add", { node: "vda", name: "since-0" });
    await guest.write("vda", 15 * MiB, MiB, 7);
    await using program = await serving(guest, []);
    const bitmap = { sync: "bitmap", bitmap: "since-0", "bitmap-mode": "never" };
    await begin(guest.machine.qmp, jobs(guest, bitmap));
    await completes(guest, program);
    const changed = Buffer.alloc(SIZES.vda).fill(7, 15 * MiB);
    expect(output(guest, "vda").equals(changed)).toBeTrue();
  },
);

for (const [how, ending, event] of [
  ["cancelled when it is ready is the disk of its end", {}, "BLOCK_JOB_COMPLETED"],
  ["cancelled by force says so", { force: true }, "BLOCK_JOB_CANCELLED"],
] as const) {
  withMachine(`a mirror that is ${how}`, ONE, async (guest) => {
    const { qmp } = guest.machine;
    await using program = await serving(guest, ["spool=/var/tmp", "--hold"]);
    await qmp.execute("blockdev-mirror", jobs(guest)[0]);
    await scatter(guest, 50);
    await qmp.event("BLOCK_JOB_READY");
    const then = guest.instant();
    await qmp.execute("block-job-cancel", { device: "vda-job", ...ending });
    await qmp.event(event);
    await scatter(guest, 5);
    await closeExports(guest.machine);
    expect((await program.ended()).status).toBe(0);
    if (event === "BLOCK_JOB_COMPLETED") expectOutputs(guest, then);
    expect(await guest.lost()).toEqual([]);
  });
}

withMachine("a mirror without --hold is truncated, and --hold is named", ONE, async (guest) => {
  const { qmp } = guest.machine;
  await using program = await serving(guest, ["spool=/var/tmp"]);
  await qmp.execute("blockdev-mirror", jobs(guest)[0]);
  await scatter(guest, 50);
  await Promise.race([qmp.event("BLOCK_JOB_COMPLETED"), qmp.event("BLOCK_JOB_READY")]);
  // What the guest writes now is written for the second time.
  for (let i = 0; !qmp.untaken.includes("BLOCK_JOB_ERROR") && i < 200; i++) {
    await guest.write("vda", 0, 65536, 1 + (i % 200));
  }
  await guest.machine.quit();
  const { status, stderr } = await program.ended();
  expect(status).toBe(4);
  expect(stderr).toContain("use --hold");
});

withMachine("a mirror that is completed moves the guest to our export", ONE, async (guest) => {
  const { qmp } = guest.machine;
  await using program = await serving(guest, ["spool=/var/tmp", "--hold"]);
  await qmp.execute("blockdev-mirror", jobs(guest)[0]);
  await qmp.event("BLOCK_JOB_READY");
  await qmp.execute("block-job-complete", { device: "vda-job" });
  await qmp.event("BLOCK_JOB_COMPLETED");
  await guest.write("vda", 5 * MiB, 65536, 99);
  // Its image has not got that, and the stream has.
  expect(await guest.lost()).toEqual(["vda"]);
  expect((await program.ended()).status).toBe(0);
  expectOutputs(guest, guest.models);
});

withMachine(
  "an overlay without room fails the guest, but with the filter the backup",
  ONE,
  async (guest) => {
    const { qmp } = guest.machine;
    // In place of a file on a full disk.
    const small = { driver: "raw", size: 16 * MiB, file: { driver: "null-co", size: 16 * MiB } };
    const full = {
      driver: "blkdebug",
      "node-name": "vda-old",
      image: small,
      "inject-error": [{ event: "none", iotype: "write", errno: 28, sector: -1 }],
    };
    await qmp.execute("blockdev-add", full);
    const job = { "job-id": "vda-job", device: "vda", target: "vda-old", sync: "none" };
    await qmp.execute("blockdev-backup", job);
    expect((await guest.write("vda", 0, 65536, 9)).failed).toBeTrue();
    await qmp.execute("block-job-cancel", { device: "vda-job" });
    await qmp.event("BLOCK_JOB_CANCELLED");

    await qmp.execute("blockdev-add", {
      ...{ driver: "copy-before-write", "node-name": "vda-filter", file: "vda", target: "vda-old" },
      "on-cbw-error": "break-snapshot",
    });
    const path = "/machine/peripheral/vda-device/virtio-backend";
    await qmp.execute("stop");
    await qmp.execute("qom-set", { path, property: "drive", value: "vda-filter" });
    const then = { driver: "snapshot-access", "node-name": "vda-then", file: "vda-filter" };
    await qmp.execute("blockdev-add", then);
    await qmp.execute("nbd-server-start", { addr: { type: "unix", data: { path: "nbd.sock" } } });
    const shown = { type: "nbd", id: "vda-export", "node-name": "vda-then", name: "vda" };
    await qmp.execute("block-export-add", shown);
    const words = ["run", "pipe=exec:cat > vda.raw", "nbd+unix:///vda?socket=nbd.sock"];
    const backup = () => runProgram(words, { cwd: guest.machine.folder });
    expect((await backup()).status).toBe(0);
    expectOutputs(guest, guest.models);
    expect((await guest.write("vda", 0, 65536, 9)).failed).toBeFalse();
    expect((await backup()).status).toBe(3);
    expect(await guest.lost()).toEqual([]);
  },
);

withMachine("what is shown can be read again and again, and then anew", SIZES, async (guest) => {
  for (const round of [1, 2]) {
    const then = guest.instant();
    await show(guest.machine);
    for (const disk of guest.machine.disks) {
      await scatter(guest, 5 * round);
      const words = ["run", `pipe=exec:cat > ${disk}.raw`, `nbd+unix:///${disk}?socket=nbd.sock`];
      const { status, stderr } = await runProgram(words, { cwd: guest.machine.folder });
      expect(status, stderr).toBe(0);
    }
    expectOutputs(guest, then);
    await hide(guest.machine);
  }
  expect(await guest.lost()).toEqual([]);
});

test.skipIf(why !== "" || Bun.which("python3") === null)(
  `check gives the line for a push, and that works${why}`,
  async () => {
    using folder = tempFolder();
    await using guest = await ModelledMachine.start(folder.path, ONE);
    await guest.write("vda", 0, SIZES.vda, 1);
    const cwd = folder.path;
    await shell(documentedBlock("docs/live-vm.md", "cat > qmp.py").text, [], { cwd });
    const server = { type: "unix", path: "SOCKET" };
    const node = { driver: "nbd", "node-name": "vda-push", server };
    const steps = [
      { execute: "blockdev-add", arguments: node },
      { execute: "blockdev-backup", arguments: jobs(guest)[0] },
      { event: "BLOCK_JOB_COMPLETED", job: "vda-job" },
      { execute: "blockdev-del", arguments: { "node-name": "vda-push" } },
    ];
    writeFileSync(folder.file("push"), steps.map((step) => JSON.stringify(step)).join("\n"));
    const line = 'sed "s|SOCKET|$unixsocket|" push | python3 qmp.py qmp.sock';
    const { status, stdout, stderr } = await runProgram(["check", "size=16M", "--", line], { cwd });
    expect(status, stdout + stderr).toBe(0);
    const [advice = ""] = stdout.match(/^nbd-streaming run .*$/m) ?? [];
    const backup = advice
      .replace("nbd-streaming", "program")
      .replace("pipe=disk.fifo", "pipe=exec:'cat > vda.raw'");
    const ended = await shell(backup, [], { cwd });
    expect(ended.status, ended.stderr).toBe(0);
    expectOutputs(guest, guest.models);
  },
);
