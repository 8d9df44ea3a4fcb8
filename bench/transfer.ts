/** One run: a program that writes into a FIFO, and a reader of that FIFO. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";

/** How long a reader may outlive its writer, or a process SIGTERM. */
const GRACE_MS = 10_000;

export interface Transfer {
  /** A folder for the FIFO and for what the two have to say. */
  folder: string;
  writer(fifo: string): string[];
  env?: Record<string, string>;
  /** `writer` is the process id of the other end. */
  reader(fifo: string, writer: number): string[];
  limitSeconds: number;
}

export interface Outcome {
  /** From the start of the writer until both have ended. */
  seconds: number;
  /** What the reader printed. */
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
  const started = performance.now();
  const writer = start(plan.writer(fifo), plan.env ?? {}, null, complaints);
  const reader = start(plan.reader(fifo, writer.pid), {}, printed, null);
  try {
    const limit = plan.limitSeconds * 1000;
    const status = await within(writer.exited, limit, "it takes too long");
    if (status !== 0) throw new Error(`it failed with ${writer.signalCode ?? status}`);
    // A writer that never opened the FIFO leaves the reader waiting for ever. nbdkit's server may
    // end a little after its command.
    const end = await within(reader.exited, GRACE_MS, "the reader saw no end of the stream");
    const seconds = (performance.now() - started) / 1000;
    if (end !== 0) throw new Error(`the reader failed with ${reader.signalCode ?? end}`);
    return { seconds, output: readFileSync(printed, "utf8") };
  } catch (error) {
    await Promise.all([end(writer), end(reader)]);
    const said = existsSync(complaints) ? readFileSync(complaints, "utf8").trim() : "";
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${writer.spawnargs.join(" ")}: ${what}\n${said}`.trimEnd());
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
