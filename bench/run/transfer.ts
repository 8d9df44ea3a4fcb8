/** One run: a program, and a process at the other end of its stream. */
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { becomeSubreaper, childrenSeconds, cpuSeconds, orphansEnded } from "./cpu.ts";
import { PeakWatch } from "./peak.ts";

/** How long one of the two may outlive the other, an orphan its parent, or a process SIGTERM. */
const GRACE_MS = 10_000;

/** Where the program finds what it needs. */
export interface Places {
  /** A FIFO, or the socket of the listener. */
  stream: string;
  /** To be written by a server, so that its size in memory can be followed. */
  pidfile: string;
}

/** What runs; either end may be the one that writes into the FIFO. */
export interface Ends {
  /** What is measured. */
  program(places: Places): string[];
  /** Added to the environment of the program. */
  env?: Record<string, string>;
  /** What it may exit with; 0 if nothing is said. */
  statuses?: readonly number[];
  /** The other end of the FIFO, if it is used; `program` is the process id of the first. */
  other?(stream: string, program: number): string[];
  /** Instead of it, what listens on a Unix socket, which is there before the program is started. */
  listener?(stream: string): string[];
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
  /** Of the program without what it has started `timed`, if it has. */
  serverCpuSeconds?: number;
  /** The largest resident size of the process in the pidfile, if it was seen. */
  serverPeakBytes?: number;
  /** What the other end printed. */
  output: string;
}

/**
 * A command line for the shell whose CPU time does not count as the server's.
 *
 * @param whose a program may start one of each
 */
export function timed(command: string, whose: "CLIENT" | "HELPER"): string {
  return `${command}\nstatus=$?; times > "$${whose}_TIMES"; exit $status`;
}

const running = new Set<Subprocess>();

/**
 * Runs both to their end.
 *
 * @throws Error when either fails or takes too long; both have ended then, too
 */
export async function transfer(plan: Transfer): Promise<Outcome> {
  const file = (name: string) => join(plan.folder, name);
  const [stream, pidfile, complaints, printed] = [
    file("stream"),
    file("pid"),
    file("stderr"),
    file("stdout"),
  ];
  const times = [file("client-times"), file("helper-times")] as const;
  for (const path of [stream, pidfile, complaints, printed, ...times])
    rmSync(path, { force: true });
  // nbdkit's server is a child of a process that does not wait for it.
  becomeSubreaper();
  const listener = await listening(plan, stream, printed);
  const env = { ...plan.env, CLIENT_TIMES: times[0], HELPER_TIMES: times[1] };
  using peak = new PeakWatch(pidfile);
  const started = performance.now();
  const program = start(plan.program({ stream, pidfile }), env, null, complaints);
  const other = listener ?? startOther(plan, stream, program.pid, printed);
  try {
    const limit = plan.limitSeconds * 1000;
    const status = await within(program.exited, limit, "it takes too long");
    if (!(plan.statuses ?? [0]).includes(status)) {
      throw new Error(`it failed with ${program.signalCode ?? status}`);
    }
    // A program that never opened the FIFO leaves the other waiting for ever. nbdkit's server may
    // end a little after its command.
    if (other !== undefined) {
      const code = await within(other.exited, GRACE_MS, "the other end of the stream does not end");
      if (code !== 0) throw new Error(`the other end failed with ${other.signalCode ?? code}`);
    }
    const seconds = (performance.now() - started) / 1000;
    await orphansEnded(program.pid, GRACE_MS);
    const ofProgram = cpuSeconds(program);
    return {
      seconds,
      cpuSeconds: ofProgram + (other === undefined ? 0 : cpuSeconds(other)),
      ...serverCpu(ofProgram, times),
      ...(peak.bytes === undefined ? {} : { serverPeakBytes: peak.bytes }),
      output: other === undefined ? "" : readFileSync(printed, "utf8"),
    };
  } catch (error) {
    await Promise.all([end(program), ...(other === undefined ? [] : [end(other)])]);
    const said = existsSync(complaints) ? readFileSync(complaints, "utf8").trim() : "";
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${program.spawnargs.join(" ")}: ${what}\n${said}`.trimEnd(), { cause: error });
  }
}

/**
 * The same several times at once, each in a folder of its own.
 *
 * @returns the time of the slowest, the CPU time of all, and the largest server
 * @throws Error when one of them fails; all have ended then
 */
export async function atOnce(plan: Transfer, streams: number): Promise<Outcome> {
  if (streams === 1) return await transfer(plan);
  const started = Array.from({ length: streams }, (_, index) => {
    const folder = join(plan.folder, `stream-${index}`);
    mkdirSync(folder, { recursive: true });
    return transfer({ ...plan, folder });
  });
  const ended = await Promise.allSettled(started);
  const outcomes = ended.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
  const sum = (values: number[]) => values.reduce((one, other) => one + other, 0);
  const known = <T>(values: (T | undefined)[]) => values.filter((value) => value !== undefined);
  const server = known(outcomes.map((each) => each.serverCpuSeconds));
  const peaks = known(outcomes.map((each) => each.serverPeakBytes));
  return {
    seconds: Math.max(...outcomes.map((each) => each.seconds)),
    cpuSeconds: sum(outcomes.map((each) => each.cpuSeconds)),
    ...(server.length === streams && { serverCpuSeconds: sum(server) }),
    ...(peaks.length > 0 && { serverPeakBytes: Math.max(...peaks) }),
    output: outcomes.map((each) => each.output).join(""),
  };
}

/** Ends whatever still runs. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map(end));
}

async function listening(
  { listener }: Ends,
  stream: string,
  printed: string,
): Promise<Started | undefined> {
  if (listener === undefined) {
    if (Bun.spawnSync(["mkfifo", "-m", "600", stream]).exitCode === 0) return undefined;
    throw new Error(`cannot make the FIFO ${stream}`);
  }
  const child = start(listener(stream), {}, printed, null);
  const deadline = performance.now() + GRACE_MS;
  while (!existsSync(stream)) {
    if (performance.now() > deadline) throw new Error(`nobody listens on ${stream}`);
    await Bun.sleep(5);
  }
  return child;
}

function startOther(
  plan: Ends,
  stream: string,
  program: number,
  printed: string,
): Started | undefined {
  const cmd = plan.other?.(stream, program);
  return cmd === undefined ? undefined : start(cmd, {}, printed, null);
}

function serverCpu(
  ofProgram: number,
  [client, helper]: readonly [string, string],
): Pick<Outcome, "serverCpuSeconds"> {
  if (!existsSync(client)) return {};
  const others = [client, helper].filter(existsSync).map((path) => readFileSync(path, "utf8"));
  const serverCpuSeconds = others.reduce((left, text) => left - childrenSeconds(text), ofProgram);
  // The clock of the shell is coarse: of a client that did nearly everything it may say too much.
  return { serverCpuSeconds: Math.max(0, serverCpuSeconds) };
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
