/**
 * What the guest of a running machine notices of a backup: its slowest write while the sink stalls, and how
 * many of its writes fail when the sink dies. docs/live-vm.md has the figures.
 *
 *     bun bench/live-vm.ts [--stall SECONDS]
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { pseudoRandom } from "../test/support/images.ts";
import { Machine } from "../test/support/machine.ts";
import { command, startProgram } from "../test/support/program.ts";
import { tempFolder } from "../test/support/temp.ts";

const MiB = 1024 * 1024;
const SIZE = 64 * MiB;
const { values } = parseArgs({ options: { stall: { type: "string", default: "10" } } });
const stall = Number(values.stall);

/** So slowly that the job, too, learns late of a dead sink: as a large disk would take. */
const SPEED = 64 * 1024;
/** Milliseconds for which the guest writes beside a dead sink. */
const DEAD = 5000;

type Sink = "stalls" | "dies";
const SINKS: Readonly<Record<Sink, string>> = {
  stalls: `exec:head -c 20M > out; sleep ${stall}; cat >> out`,
  dies: "exec:head -c 1M > out",
};

interface Push {
  readonly words: readonly string[];
  readonly job: Readonly<Record<string, unknown>>;
}

const PUSHES: Readonly<Record<string, Push>> = {
  "push, --hold": { words: ["--hold", "spool=/var/tmp"], job: {} },
  "push, window=64M, one worker": {
    words: ["window=64M"],
    job: { "x-perf": { "max-workers": 1 } },
  },
  "push, spool=/var/tmp": { words: ["spool=/var/tmp"], job: {} },
};

/** Writes as the guest until something is over. */
async function writes(machine: Machine, over: Promise<unknown>): Promise<Result> {
  let done = false;
  void over.finally(() => (done = true));
  const result = { count: 0, failed: 0, slowest: 0 };
  for (; !done; result.count++) {
    const at = (result.count * 7919 * 65536) % (60 * MiB);
    const byte = (result.count % 200) + 1;
    const { failed, milliseconds } = await machine.write("vda", at, 65536, byte, 60_000);
    result.slowest = Math.max(result.slowest, milliseconds);
    if (failed) result.failed++;
    await Bun.sleep(5);
  }
  return result;
}

interface Result {
  readonly count: number;
  readonly failed: number;
  readonly slowest: number;
}

async function measured(how: string, sink: Sink): Promise<Result> {
  using folder = tempFolder();
  const raw = folder.file("vda.raw");
  writeFileSync(raw, pseudoRandom(SIZE, 3));
  await command(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, folder.file("vda.qcow2")]);
  await using machine = await Machine.start(folder.path, ["vda"]);
  const push = PUSHES[how];
  if (push !== undefined) return await pushed(machine, sink, push);
  return how === "pull" ? await pulled(machine, sink) : await writes(machine, Bun.sleep(DEAD));
}

async function pulled(machine: Machine, sink: Sink): Promise<Result> {
  const overlay = machine.file("vda-then.qcow2");
  await command(["qemu-img", "create", "-q", "-f", "qcow2", overlay, String(SIZE)]);
  await machine.qmp.execute("blockdev-add", {
    driver: "qcow2",
    "node-name": "vda-then",
    file: { driver: "file", filename: "vda-then.qcow2" },
    backing: "vda",
  });
  const job = { "job-id": "job", device: "vda", target: "vda-then", sync: "none" };
  await machine.qmp.execute("blockdev-backup", job);
  const addr = { type: "unix", data: { path: "nbd.sock" } };
  await machine.qmp.execute("nbd-server-start", { addr });
  const shown = { type: "nbd", id: "export", "node-name": "vda-then", name: "vda" };
  await machine.qmp.execute("block-export-add", shown);
  const words = ["run", `pipe=${SINKS[sink]}`, "nbd+unix:///vda?socket=nbd.sock"];
  await using program = startProgram(words, { cwd: machine.folder });
  const ended = program.process.exited;
  return await writes(machine, sink === "dies" ? Bun.sleep(DEAD) : ended);
}

async function pushed(machine: Machine, sink: Sink, { words, job }: Push): Promise<Result> {
  const path = machine.file("push.sock");
  const serve = ["serve", "-U", path, `pipe=${SINKS[sink]}`, `size=${SIZE}`, ...words];
  await using program = startProgram(serve, { cwd: machine.folder });
  await program.saying(/listening on/);
  const server = { type: "unix", path };
  await machine.qmp.execute("blockdev-add", { driver: "nbd", "node-name": "push", server });
  await machine.qmp.execute("blockdev-backup", {
    ...{ "job-id": "job", device: "vda", target: "push", sync: "full", ...job },
    ...(sink === "dies" ? { speed: SPEED } : {}),
  });
  const over = sink === "dies" ? Bun.sleep(DEAD) : machine.qmp.event("BLOCK_JOB_COMPLETED");
  return await writes(machine, over);
}

for (const how of ["no backup", "pull", ...Object.keys(PUSHES)]) {
  for (const sink of ["stalls", "dies"] as const) {
    if (how === "no backup" && sink === "dies") continue;
    const { count, failed, slowest } = await measured(how, sink);
    const line = `slowest write ${Math.round(slowest)} ms, ${failed} of ${count} failed`;
    console.log(`${how}; the sink ${sink}: ${line}`);
  }
}
process.exit();
