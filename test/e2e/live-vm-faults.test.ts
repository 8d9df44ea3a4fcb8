/**
 * A backup of a running machine whose sink, server or machine dies: the guest's writes go on if it is pulled,
 * the stream is truncated, and the backup programs have nothing.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { GATE } from "../support/base-trial.ts";
import { LIMIT } from "../support/limit.ts";
import { begin, closeExports, hide, openExports, show } from "../support/live-backup.ts";
import { MACHINE_MISSING } from "../support/machine.ts";
import { ModelledMachine } from "../support/machine-disks.ts";
import { command, eventually, type Running, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

setDefaultTimeout(LIMIT);

const MiB = 1024 * 1024;
const SIZES = { vda: 24 * MiB, vdb: 24 * MiB };
/** Where the sinks show what they have got. */
const SEEN = 'tee "$NBD_STREAMING_EXPORT.seen"';

const missing = [
  ...MACHINE_MISSING,
  ...["restic", "borg"].filter((tool) => Bun.which(tool) === null),
];
const why = missing.length > 0 ? ` (needs ${missing.join(", ")})` : "";

const repositories = tempFolder();
const ENV = {
  RESTIC_REPOSITORY: repositories.file("restic"),
  RESTIC_PASSWORD: "secret",
  RESTIC_CACHE_DIR: repositories.file("cache"),
  BORG_REPO: repositories.file("borg"),
  BORG_BASE_DIR: repositories.file("base"),
};

/** The lock of a borg that was killed is free when that has been reaped, by whoever does it and when. */
const LOCK_WAIT = ["--lock-wait", "60"];

beforeAll(async () => {
  if (why !== "") return;
  await command(["restic", "init", "-q"], { env: ENV });
  await command(["borg", "init", "--encryption", "none"], { env: ENV });
});
afterAll(() => repositories[Symbol.dispose]());

/** Expects neither restic nor borg to have anything of any disk. */
async function expectNothing(): Promise<void> {
  expect(await command(["restic", "snapshots", "--json", "--no-lock"], { env: ENV })).toMatch(
    /^(?:null|\[\])\s*$/,
  );
  const borg = ["borg", "list", "--short", "--consider-checkpoints", ...LOCK_WAIT];
  expect(await command(borg, { env: ENV })).toBe("");
}

/** A sink that dies when it has got so much, and two that keep what they get to its end. */
const DYING = "pipe=exec:head -c 256K > part";
const KEEPING = [
  ["vda", `pipe=exec:${SEEN} | restic backup -q --stdin --stdin-filename vda.raw`],
  ["vdb", `pipe=exec:${SEEN} | borg create ${LOCK_WAIT.join(" ")} --stdin-name vdb.raw ::vdb -`],
] as const;

/** Starts a stream of each disk from a machine that shows them: it does not end before there is a file `gate`. */
function pulling({ machine }: ModelledMachine): Running {
  const copy = machine.disks
    .map((disk) => {
      const shown = `nbd+unix:///${disk}?socket=nbd.sock`;
      return `qemu-img convert -n -m 1 -f raw -O raw "${shown}" "$uri_${disk}"`;
    })
    .join(" & ");
  const streams = KEEPING.flatMap(([disk, sink]) => {
    const held = sink.replace("exec:", `exec:{ head -c 2M; ${GATE}; cat; } | `);
    return ["-e", disk, `size=${SIZES[disk]}`, held];
  });
  // Where its socket is left when it is killed.
  const options = { cwd: machine.folder, env: { ...ENV, TMPDIR: machine.folder } };
  return startProgram(["run", ...streams, "--", `${copy} && wait $!`], options);
}

/** Waits until both sinks are within their streams. */
async function flowing({ machine }: ModelledMachine): Promise<void> {
  for (const disk of machine.disks) {
    const seen = machine.file(`${disk}.seen`);
    const flows = () => existsSync(seen) && statSync(seen).size >= MiB;
    await eventually(flows, `the stream of ${disk}`);
    expect(statSync(seen).size).toBeLessThan(SIZES.vda);
  }
}

/** Has the guest write here and there. @returns how many of these writes fail */
async function writes(guest: ModelledMachine, count = 20): Promise<number> {
  let failed = 0;
  for (let i = 0; i < count; i++) {
    for (const disk of guest.machine.disks) {
      const at = ((i * 37) % (SIZES.vda / 65536)) * 65536;
      if ((await guest.write(disk, at, 65536, 100 + (i % 100))).failed) failed++;
    }
  }
  return failed;
}

const withMachine = (title: string, body: (guest: ModelledMachine) => Promise<void>) =>
  test.skipIf(why !== "")(`${title}${why}`, async () => {
    using folder = tempFolder();
    await using guest = await ModelledMachine.start(folder.path, SIZES);
    for (const disk of guest.machine.disks) await guest.write(disk, 0, SIZES.vda, 1);
    await body(guest);
  });

withMachine(
  "a sink that dies is no matter of the guest, and the disk can be had again",
  async (guest) => {
    const { machine } = guest;
    await show(machine);
    const then = guest.instant();
    const words = (sink: string) => ["run", sink, "nbd+unix:///vda?socket=nbd.sock"];
    for (const [sink, status] of [
      [DYING, 1],
      ["pipe=exec:cat > vda.raw", 0],
    ] as const) {
      await using program = startProgram(words(sink), { cwd: machine.folder });
      expect(await writes(guest)).toBe(0);
      const ended = await program.ended();
      expect(ended.status, ended.stderr).toBe(status);
      if (status !== 0) expect(ended.stderr).toContain("truncated");
    }
    const copy = Buffer.from(await Bun.file(machine.file("vda.raw")).arrayBuffer());
    expect(copy.equals(then.vda as Buffer)).toBeTrue();
    await hide(machine);
    expect(await guest.lost()).toEqual([]);
  },
);

withMachine(
  "a server that is killed is no matter of the guest, and nothing is backed up",
  async (guest) => {
    await show(guest.machine);
    await using program = pulling(guest);
    await flowing(guest);
    program.process.kill("SIGKILL");
    expect(await writes(guest)).toBe(0);
    expect((await program.ended()).status).toBe(137);
    await expectNothing();
    await hide(guest.machine);
    expect(await guest.lost()).toEqual([]);
  },
);

withMachine(
  "a machine that is killed truncates its backup, and nothing is backed up",
  async (guest) => {
    const { machine } = guest;
    await show(machine);
    await using program = pulling(guest);
    await flowing(guest);
    expect(await writes(guest)).toBe(0);
    for (const disk of machine.disks) await machine.flush(disk);
    await machine.kill();
    writeFileSync(machine.file("gate"), "");
    const { status, stderr } = await program.ended();
    expect(status, stderr).toBe(1);
    expect(stderr).toContain("vda: ");
    expect(stderr.match(/truncated/g)?.length).toBeGreaterThanOrEqual(2);
    await expectNothing();
    // What the guest has flushed is there.
    for (const [disk, model] of Object.entries(guest.models)) {
      const raw = machine.file(`${disk}.own`);
      await command(["qemu-img", "convert", "-O", "raw", machine.file(`${disk}.qcow2`), raw]);
      expect(Buffer.from(await Bun.file(raw).arrayBuffer()).equals(model)).toBeTrue();
    }
  },
);

/** Starts `serve` for pushes, and a job that is slow to notice anything. */
async function pushing(guest: ModelledMachine, words: readonly string[]): Promise<Running> {
  const { machine } = guest;
  const path = machine.file("push.sock");
  const options = { cwd: machine.folder, env: ENV };
  const program = startProgram(["serve", "-U", path, ...words], options);
  await program.saying(/listening on/);
  await openExports(machine, path);
  const speed = 65536;
  const jobs = machine.disks.map((device) => ({
    ...{ "job-id": device, device, target: `${device}-push`, sync: "full", speed },
  }));
  await begin(machine.qmp, jobs);
  return program;
}

/** Ends the jobs, after which the machine is as before. */
async function over({ machine }: ModelledMachine): Promise<void> {
  for (const device of machine.disks) {
    await machine.qmp.execute("block-job-cancel", { device, force: true }).catch(() => {});
    const ends = ["BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED"];
    await Promise.race(ends.map((name) => machine.qmp.event(name, { device })));
  }
  await closeExports(machine);
}

withMachine(
  "a sink that dies fails the guest's writes in a push, until that is over",
  async (guest) => {
    const streams = KEEPING.flatMap(([disk]) => ["-e", disk, `size=${SIZES[disk]}`, DYING]);
    await using program = await pushing(guest, ["window=64M", ...streams]);
    // So much is copied before that the sinks die.
    await writes(guest, 60);
    await program.saying(/truncated[^]*truncated/);
    expect(await writes(guest, 384)).toBeGreaterThan(0);
    await over(guest);
    expect(await writes(guest)).toBe(0);
    expect((await program.ended()).status).toBe(4);
    expect(await guest.lost()).toEqual([]);
  },
);

withMachine("a server that is killed in a held push leaves nothing backed up", async (guest) => {
  const streams = KEEPING.flatMap(([disk, sink]) => ["-e", disk, `size=${SIZES[disk]}`, sink]);
  await using program = await pushing(guest, ["--hold", "spool=/var/tmp", ...streams]);
  expect(await writes(guest)).toBe(0);
  program.process.kill("SIGKILL");
  await program.ended();
  expect(await writes(guest, 384)).toBeGreaterThan(0);
  await over(guest);
  expect(await writes(guest)).toBe(0);
  // The sinks were never started.
  expect(existsSync(guest.machine.file("vda.seen"))).toBeFalse();
  await expectNothing();
  expect(await guest.lost()).toEqual([]);
});
