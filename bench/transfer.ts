/** One run: a program, and a process at the other end of its FIFO. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { adoptOrphans, cpuSeconds, orphansEnded } from "./cpu.ts";

/** How long one of the two may outlive the other, an orphan its parent, or a process SIGTERM. */
const GRACE_MS = 10_000;

/** What runs; either end may be the one that writes into the FIFO. */
export interface Ends {
  /** What is measured. */
  program(fifo: string): string[];
  /** Added to the environment of the program. */
  env?: Record<string, string>;
  /** The other end of the FIFO; `program` is the process id of the first. */
  other(fifo: string, program: number): string[];
}

export interface Transfer extends Ends {
  /** A folder for the FIFO and for what the two have to say. */
  folder: string;
  limitSeconds: number;
}

export interface Outcome {
  /** From the start of the program until both have ended. */
  seconds: number;
  /** Of both, and of all that they have started. */
  cpuSeconds: number;
  /** What the other end printed. */
  output: string;
}

const running = new Set<Subprocess>();

/**
 * Runs both to their end.
 *
 * @throws Error when either fails or takes too long; both have ended then, too
 */
export async function transfer(plan: Transfer): Promise<Outcome> {
  const fifo = join(plan.folder, "stream.fifo");
  const complaints = join(plan.folder, "stderr");
  const printed = join(plan.folder, "stdout");
  for (const path of [fifo, complaints, printed]) rmSync(path, { force: true });
  if (Bun.spawnSync(["mkfifo", "-m", "600", fifo]).exitCode !== 0) {
    throw new Error(`cannot make the FIFO ${fifo}`);
  }
  // nbdkit's server is a child of a process that does not wait for it.
  adoptOrphans();
  const started = performance.now();
  const program = start(plan.program(fifo), plan.env ?? {}, null, complaints);
  const other = start(plan.other(fifo, program.pid), {}, printed, null);
  try {
    const limit = plan.limitSeconds * 1000;
    const status = await within(program.exited, limit, "it takes too long");
    if (status !== 0) throw new Error(`it failed with ${program.signalCode ?? status}`);
    // A program that never opened the FIFO leaves the other waiting for ever. nbdkit's server may
    // end a little after its command.
    const end = await within(other.exited, GRACE_MS, "the other end of the FIFO does not end");
    const seconds = (performance.now() - started) / 1000;
    if (end !== 0) throw new Error(`the other end failed with ${other.signalCode ?? end}`);
    await orphansEnded(program.pid, GRACE_MS);
    return {
      seconds,
      cpuSeconds: cpuSeconds(program) + cpuSeconds(other),
      output: readFileSync(printed, "utf8"),
    };
  } catch (error) {
    await Promise.all([end(program), end(other)]);
    const said = existsSync(complaints) ? readFileSync(complaints, "utf8").trim() : "";
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${program.spawnargs.join(" ")}: ${what}\n${said}`.trimEnd());
  }
}

/** Ends whatever still runs. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map(end));
}

type Started = Subprocess & { spawnargs: string[] };

function start(
  cmd: string[],
  env: Record<string, string>,
  stdout: string | null,
  stderr: string | null,
): Started {
  const child = Bun.spawn({
    cmd,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: stdout === null ? "ignore" : Bun.file(stdout),
    stderr: stderr === null ? "inherit" : Bun.file(stderr),
    // In a process group of its own, nbdkit's server and its command can be ended together.
    detached: true,
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  return Object.assign(child, { spawnargs: cmd });
}

async function end(child: Subprocess): Promise<void> {
  signal(child, "SIGTERM");
  const ended = child.exited.then(() => true);
  if (!(await Promise.race([ended, Bun.sleep(GRACE_MS).then(() => false)]))) {
    signal(child, "SIGKILL");
    await ended;
  }
}

function signal(child: Subprocess, name: NodeJS.Signals): void {
  try {
    process.kill(-child.pid, name);
  } catch {
    // It has ended, and all of its group.
  }
}

async function within<T>(promise: Promise<T>, limit: number, complaint: string): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(complaint)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
