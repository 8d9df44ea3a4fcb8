/** Processes as /proc shows them (proc(5)). */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** All process ids, zombies included. */
export function processes(): number[] {
  return readdirSync("/proc").map(Number).filter(Number.isInteger);
}

/** A process's parent and process group, and whether a signal has stopped it. */
export interface Relations {
  readonly parent: number;
  readonly group: number;
  readonly stopped: boolean;
}

/** All processes but zombies (proc(5), stat). */
export function livingProcesses(): Map<number, Relations> {
  const living = new Map<number, Relations>();
  for (const pid of processes()) {
    const [state, parent, group] = statOf(pid) ?? ["X"];
    if (state === "Z" || state === "X") continue;
    living.set(pid, { parent: Number(parent), group: Number(group), stopped: state === "T" });
  }
  return living;
}

/** Process ids of all living descendants of `roots`, without `roots`. */
export function descendants(
  roots: readonly number[],
  living: ReadonlyMap<number, Relations> = livingProcesses(),
): number[] {
  const children = new Map<number, number[]>();
  for (const [pid, { parent }] of living) {
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [pid]);
    else siblings.push(pid);
  }
  const found = new Set<number>();
  const queue = roots.flatMap((root) => children.get(root) ?? []);
  for (let pid = queue.shift(); pid !== undefined; pid = queue.shift()) {
    if (found.has(pid)) continue;
    found.add(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  return [...found].filter((pid) => !roots.includes(pid));
}

/** When a process started, in clock ticks since boot; undefined if there is no such process. */
export function startTime(pid: number): number | undefined {
  const time = statOf(pid)?.[19];
  return time === undefined ? undefined : Number(time);
}

/** The fields of /proc/PID/stat (proc(5)) from the third one, the state; undefined if there is no process. */
export function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field is the name in parentheses, which may contain spaces and parentheses.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

/**
 * True when the process was started with `mark` as a word of the environment variable `name`, which it
 * inherits from its parents; false for one that has ended, or is another user's.
 */
export function hasMark(pid: number, name: string, mark: string): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    const value = environment.find((one) => one.startsWith(`${name}=`));
    return (
      value
        ?.slice(name.length + 1)
        .split(" ")
        .includes(mark) === true
    );
  } catch {
    return false;
  }
}

/**
 * True when the process has a pipe open for reading.
 *
 * @param pipe `pipe:[…]`, from readlink(2) of a descriptor in /proc
 */
export function readsPipe(pid: number, pipe: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      if (readlinkSync(`/proc/${pid}/fd/${fd}`) !== pipe) return false;
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1");
      return /^flags:\s*[0-7]*0$/m.test(info);
    });
  } catch {
    return false;
  }
}

/** Sends a signal to each process that still exists. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended in the meantime.
    }
  }
}

/**
 * Checks that /proc shows what is needed to find a command's processes: parents, environments and
 * descriptors (proc(5)).
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
