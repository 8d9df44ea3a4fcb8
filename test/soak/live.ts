/**
 * `bun run soak:live [ROUNDS] [--seed S] [--size MIB]`: backs up a running machine again and again, whose
 * guest writes all the time. Each round pulls its four disks, has QEMU push them with a window, and with a
 * spool. All images have to be those of the instant, and at the end the disks what was written to them.
 * Exits with 1 if one is not. The disks have once, once, twice and four times so many MiB (default: 256).
 */
import { rmSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { begin, closeExports, hide, openExports, show } from "../support/live-backup.ts";
import { MACHINE_MISSING } from "../support/machine.ts";
import { ModelledMachine } from "../support/machine-disks.ts";
import { type Running, startProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

const MiB = 1024 * 1024;
/** Writes of the guest within each backup, at least. */
const WRITES = 200;
/** Bytes per second of a push, for as long as the guest has not written so much. */
const SLOW = 4 * MiB;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    size: { type: "string", default: "256" },
  },
});
const rounds = Number(positionals[0] ?? 20);
const size = Number(values.size) * MiB;
const SIZES = { vda: size, vdb: size, vdc: 2 * size, vdd: 4 * size };
const DISKS = Object.entries(SIZES);

/** The same for the same seed (xorshift32). */
let state = Number(values.seed) >>> 0 || 1;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

/** A write of the guest: whole sectors, at any place. */
async function writeSomewhere(guest: ModelledMachine): Promise<number> {
  const [disk, length] = DISKS[random(DISKS.length)] as [string, number];
  // Mostly small, as guests write.
  const sectors = 1 + random(random(4) === 0 ? 512 : 32);
  const at = random(length / 512 - sectors) * 512;
  const written = await guest.write(disk, at, sectors * 512, 1 + random(255));
  if (written.failed) throw new Error(`a write of the guest to ${disk} at ${at} has failed`);
  return written.milliseconds;
}

/** Writes until the backup is over, and so many times at least. @returns how often, and the slowest */
async function writeUntil(guest: ModelledMachine, over: Promise<unknown>, enough: () => unknown) {
  let done = false;
  void over.catch(() => {}).finally(() => (done = true));
  let count = 0;
  let slowest = 0;
  for (; !done || count < WRITES; count++) {
    if (count === WRITES) await enough();
    slowest = Math.max(slowest, await writeSomewhere(guest));
  }
  if (count === WRITES) await enough();
  await over;
  return { count, slowest };
}

/** Pulls all disks by one run; its sinks wait until the guest has written enough. */
async function pull(guest: ModelledMachine) {
  const { machine } = guest;
  const gate = machine.file("gate");
  rmSync(gate, { force: true });
  await show(machine);
  const out = '"$NBD_STREAMING_EXPORT.raw"';
  const sink = `head -c 1M > ${out}; until [ -e gate ]; do sleep 0.05; done; cat >> ${out}`;
  const streams = DISKS.flatMap(([disk, length]) => ["-e", disk, `size=${length}`]);
  const copies = DISKS.map(
    ([disk]) =>
      `qemu-img convert -n -f raw -O raw "nbd+unix:///${disk}?socket=nbd.sock" "$uri_${disk}" & p_${disk}=$!`,
  );
  const waits = DISKS.map(([disk]) => `wait $p_${disk}`).join(" && ");
  await using program = startProgram(
    ["run", `pipe=exec:${sink}`, ...streams, "--", `${copies.join("\n")}\n${waits}`],
    { cwd: machine.folder },
  );
  const written = await writeUntil(guest, succeeds(program), () => writeFileSync(gate, ""));
  await hide(machine);
  return written;
}

/** Has QEMU push all disks: slowly until the guest has written enough. */
async function push(guest: ModelledMachine, words: readonly string[], perf: object) {
  const { machine } = guest;
  const path = machine.file("push.sock");
  const streams = DISKS.flatMap(([disk, length]) => ["-e", disk, `size=${length}`]);
  const sink = `pipe=exec:cat > "$NBD_STREAMING_EXPORT.raw"`;
  const options = { cwd: machine.folder };
  await using program = startProgram(["serve", "-U", path, sink, ...words, ...streams], options);
  await program.saying(/listening on/);
  await openExports(machine, path);
  const jobs = machine.disks.map((device) => ({
    ...{ "job-id": device, device, target: `${device}-push`, sync: "full", speed: SLOW, ...perf },
  }));
  await begin(machine.qmp, jobs);
  const faster = async () => {
    for (const device of machine.disks) {
      // It may have ended by now.
      const set = machine.qmp.execute("block-job-set-speed", { device, speed: 0 });
      await set.catch(() => {});
    }
  };
  const written = await writeUntil(guest, completed(guest), faster);
  await closeExports(machine);
  await succeeds(program);
  return written;
}

async function completed({ machine }: ModelledMachine): Promise<void> {
  for (const device of machine.disks) {
    const { data } = await machine.qmp.event("BLOCK_JOB_COMPLETED", { device });
    if (data.error !== undefined) throw new Error(`the job of ${device}: ${data.error as string}`);
  }
}

async function succeeds(program: Running): Promise<void> {
  const { status, stderr } = await program.ended();
  if (status !== 0) throw new Error(`status ${status}: ${stderr}`);
}

const WAYS: Readonly<
  Record<string, (guest: ModelledMachine) => Promise<{ count: number; slowest: number }>>
> = {
  pull,
  "push window=": (guest) => push(guest, ["window=1G"], { "x-perf": { "max-workers": 1 } }),
  "push spool=": (guest) => push(guest, ["spool=/var/tmp"], {}),
};

async function main(): Promise<number> {
  if (MACHINE_MISSING.length > 0) throw new Error(`there is no ${MACHINE_MISSING.join(", ")}`);
  console.log(`seed ${values.seed}, ${rounds} rounds`);
  using folder = tempFolder();
  await using guest = await ModelledMachine.start(folder.path, SIZES);
  // Half of each disk is data.
  for (const [disk, length] of DISKS) {
    for (let at = 0; at < length; at += 16 * MiB) await guest.write(disk, at, 8 * MiB, random(256));
  }
  let wrong = 0;
  for (let round = 1; round <= rounds; round++) {
    for (const [way, back] of Object.entries(WAYS)) {
      const then = guest.instant();
      const { count, slowest } = await back(guest);
      const others = DISKS.map(([disk]) => disk).filter((disk) => {
        const file = guest.machine.file(`${disk}.raw`);
        const same = readFileSync(file).equals(then[disk] as Buffer);
        rmSync(file);
        return !same;
      });
      wrong += others.length;
      const verdict = others.length === 0 ? "all of the instant" : `WRONG: ${others.join(", ")}`;
      const writes = `${count} writes, the slowest ${Math.round(slowest)} ms`;
      console.log(`round ${round}, ${way}: ${writes}: ${verdict}`);
    }
  }
  const lost = await guest.lost();
  if (lost.length > 0) console.log(`WRONG: the machine's own ${lost.join(", ")}`);
  console.log(wrong + lost.length === 0 ? "all right" : "something is wrong");
  return wrong + lost.length === 0 ? 0 : 1;
}

process.exit(await main());
