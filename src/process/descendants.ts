/** The processes below this one, found in /proc: a command may have started others. */
import { readdirSync, readFileSync } from "node:fs";

/** Process ids of all that there are, ended but not reaped ones included. */
export function processes(): number[] {
  return readdirSync("/proc").map(Number).filter(Number.isInteger);
}

/** Process ids of all living descendants of `root`, itself not included (proc(5), stat). */
export function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const pid of processes()) {
    const parent = livingParent(pid);
    if (parent === undefined) continue;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [pid]);
    else siblings.push(pid);
  }
  const found: number[] = [];
  const queue = [...(children.get(root) ?? [])];
  for (let pid = queue.shift(); pid !== undefined; pid = queue.shift()) {
    found.push(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  return found;
}

/** The parent of a process, or undefined if it has ended, reaped or not. */
function livingParent(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field is the name in parentheses, in which anything may stand.
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" || state === "X" ? undefined : Number(parent);
  } catch {
    return undefined;
  }
}

/**
 * True when the process was started with `NAME=VALUE` in its environment, as all are that its
 * parents passed it on to; false for one that has ended, or is another user's.
 */
export function hasMark(pid: number, mark: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
  } catch {
    return false;
  }
}

/** Sends a signal to each process that is still there. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended in the meantime.
    }
  }
}
