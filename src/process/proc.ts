/** Processes as /proc shows them (proc(5)). */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { constants } from "node:os";
import { O_ACCMODE, O_RDONLY } from "../../ffi/constants.ts";
import { yieldProcessor } from "../../ffi/process.ts";

/** All process ids, zombies included. */
export function processes(): number[] {
  return readdirSync("/proc").map(Number).filter(Number.isInteger);
}

/** A process's parent and process group, whether a signal has stopped it, and when it started, as {@link startTime}. */
export interface Relations {
  readonly parent: number;
  readonly group: number;
  readonly stopped: boolean;
  readonly started: number;
}

/** All processes but zombies (proc(5), stat). */
export function livingProcesses(): Map<number, Relations> {
  return survey().living;
}

/** What a search of /proc finds. */
interface Survey {
  /** The oldest first: a parent is to get a signal before its children, whose ends it may wait for. */
  readonly living: Map<number, Relations>;
  /** Those that were listed, and were zombies, or gone, when their turn came. */
  readonly ended: Set<number>;
}

/**
 * Searches /proc once, the youngest processes first: they may be others soon.
 *
 * @param found called for each living one as soon as it is seen
 */
export function survey(found: (pid: number, relations: Relations) => void = () => {}): Survey {
  const living: [number, Relations][] = [];
  const ended = new Set<number>();
  for (const pid of processes().toSorted((one, other) => other - one)) {
    const fields = statOf(pid);
    const [state = "X"] = fields ?? [];
    if (fields === undefined || state === "Z" || state === "X") {
      ended.add(pid);
      continue;
    }
    const [parent, group, started] = [1, 2, START_TIME].map((i) => Number(fields[i]));
    const relations = { parent, group, stopped: state === "T", started } as Relations;
    living.push([pid, relations]);
    found(pid, relations);
  }
  return { living: new Map(living.toReversed()), ended };
}

/** Process ids of all living descendants of `roots`, without `roots`. */
export function descendants(
  roots: readonly number[],
  living: ReadonlyMap<number, Relations> = livingProcesses(),
): number[] {
  const found = new Set(roots);
  let before: number;
  do {
    before = found.size;
    for (const [pid, { parent }] of living) if (found.has(parent)) found.add(pid);
  } while (found.size > before);
  return [...found].filter((pid) => !roots.includes(pid));
}

/** When a process started, in clock ticks since boot; undefined if there is no such process. */
export function startTime(pid: number): number | undefined {
  const time = statOf(pid)?.[START_TIME];
  return time === undefined ? undefined : Number(time);
}

// Positions in what statOf() returns.
const START_TIME = 19;
const VSIZE = 20;
const ENV_END = 48;

/** The fields of /proc/PID/stat (proc(5)) from the third one, the state; undefined if there is no process. */
export function statOf(pid: number): string[] | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`);
  // The second field is the name in parentheses, which may contain spaces and parentheses.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** True when a process has been sent a signal that it has not taken yet, also if it blocks it (proc(5), status). */
export function isPending(pid: number, signal: NodeJS.Signals): boolean {
  const status = readOrNothing(`/proc/${pid}/status`) ?? "";
  const mask = (name: string) => {
    return BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, "m").exec(status)?.[1] ?? "0"}`);
  };
  const pending = mask("SigPnd") | mask("ShdPnd");
  return ((pending >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}

/** The text of a file; undefined if it is not readable. */
export function readOrNothing(
  path: string,
  encoding: "latin1" | "utf8" = "latin1",
): string | undefined {
  try {
    return readFileSync(path, encoding);
  } catch {
    return undefined;
  }
}

/** O_RDONLY, O_WRONLY or O_RDWR of a process's descriptor (proc_pid_fdinfo(5)). @throws Error if it is closed */
export function accessMode(pid: number, fd: string): number {
  const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1");
  return Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? "0", 8) & O_ACCMODE;
}

/** True when one of a process's descriptors is a link to `target`; false if they are not readable. */
export function hasOpen(pid: number, target: string, also = (_fd: string) => true): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some(
      (fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === target && also(fd),
    );
  } catch {
    // Another user's process, or one that has just ended.
    return false;
  }
}

/** The most milliseconds for a process to get through execve(2), which may wait for a disk. */
const EXEC_LIMIT = 100;

/**
 * The environment that a process was started with; undefined for one that has ended, or is another user's. In
 * execve(2) a process has none from the moment that it has new memory until that is filled, and one that its
 * parent has just left behind is often there: this waits for it.
 */
function environmentOf(pid: number): string[] | undefined {
  const deadline = performance.now() + EXEC_LIMIT;
  for (;;) {
    const before = environmentEnd(pid);
    const text = readOrNothing(`/proc/${pid}/environ`, "utf8");
    if (text !== "") return text?.split("\0");
    const after = environmentEnd(pid);
    // Where it is at the same address before and after, there was no execve(2), and it is empty.
    const isKnown = after === undefined || (after !== "0" && after === before);
    if (isKnown || performance.now() >= deadline) return [];
    yieldProcessor();
  }
}

/**
 * Where the environment of a process ends in its memory, "0" as long as execve(2) has not filled that; undefined
 * for one without memory, which has ended or is the kernel's.
 */
function environmentEnd(pid: number): string | undefined {
  const { [VSIZE]: size = "0", [ENV_END]: end } = statOf(pid) ?? [];
  return size === "0" ? undefined : end;
}

/**
 * True when the process was started with `mark` as a word of the environment variable `name`, which it
 * inherits from its parents; false for one that has ended, or is another user's.
 */
export function hasMark(pid: number, name: string, mark: string): boolean {
  const environment = environmentOf(pid) ?? [];
  const value = environment.find((one) => one.startsWith(`${name}=`)) ?? "";
  return value
    .slice(name.length + 1)
    .split(" ")
    .includes(mark);
}

/**
 * True when the process has a pipe open for reading.
 *
 * @param pipe `pipe:[…]`, from readlink(2) of a descriptor in /proc
 */
export function readsPipe(pid: number, pipe: string): boolean {
  return hasOpen(pid, pipe, (fd) => accessMode(pid, fd) === O_RDONLY);
}

/** Sends a signal to a process, or to a group if negative (kill(2)); false when there is none. */
export function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    // The process exists, but belongs to another user.
    return (error as { code?: string }).code === "EPERM";
  }
}

/** Sends a signal to each process that still exists. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) send(pid, signal);
}

/**
 * Checks that /proc shows the parents, environments and descriptors of processes (proc(5)).
 *
 * @param root where it is mounted
 * @returns what is wrong; undefined if nothing is
 */
export function procProblem(root = "/proc"): string | undefined {
  try {
    const self = readlinkSync(`${root}/self`);
    // After unshare(2) without a new mount, or where a container has its host's.
    if (self !== String(process.pid)) {
      return `it is that of another PID namespace, where this process is ${self}, not ${process.pid}`;
    }
    if (!readdirSync(root).includes(self)) return "it does not list this process";
    for (const file of ["stat", "environ"]) readFileSync(`${root}/${self}/${file}`);
    readdirSync(`${root}/${self}/fd`);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
