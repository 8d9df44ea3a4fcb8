/**
 * Finds the processes that have a named pipe open, or wait to open it, in /proc (proc(5)).
 *
 * Opening the pipe to find out would let in a process that waits in open(2) for the other end
 * (fifo(7)), and that process would see end of file when the pipe is closed again.
 */
import {
  type BigIntStats,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
} from "node:fs";
import { processes } from "./proc.ts";

/** A process at one end of the pipe, or at both. */
export interface PipeUser {
  readonly pid: number;
  /** The name that ps(1) shows. */
  readonly name: string;
  readonly end: "reading" | "writing" | "both";
  /** True while it waits in open(2) for the other end. */
  readonly waiting: boolean;
}

export interface PipeUsers {
  readonly users: readonly PipeUser[];
  /** Processes that wait to open a named pipe which may or may not be this one. */
  readonly unclear: readonly { readonly pid: number; readonly name: string }[];
  /** How many processes could not be examined, as they belong to other users. */
  readonly hidden: number;
}

const O_ACCMODE = 0o3;
const ENDS = ["reading", "writing", "both"] as const;

/** @param pipe from stat(2) */
export function pipeUsers(pipe: BigIntStats): PipeUsers {
  const users: PipeUser[] = [];
  const unclear: { pid: number; name: string }[] = [];
  let hidden = 0;
  for (const pid of processes()) {
    if (pid === process.pid) continue;
    try {
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
      for (const end of openEnds(pid, pipe)) users.push({ pid, name, end, waiting: false });
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        const end = waitsFor(`/proc/${pid}/task/${task}`, pipe);
        if (end === "unclear") unclear.push({ pid, name });
        else if (end !== undefined) users.push({ pid, name, end, waiting: true });
      }
    } catch (error) {
      // Kernel threads have no command line, and no descriptors either.
      if (codeOf(error) === "EACCES" && readOr(`/proc/${pid}/cmdline`, "") !== "") hidden++;
    }
  }
  return { users, unclear, hidden };
}

/** The ends of the pipe that a process has open. @throws Error for another user's process */
function openEnds(pid: number, pipe: BigIntStats): Set<(typeof ENDS)[number]> {
  const found = new Set<(typeof ENDS)[number]>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      // A descriptor without a path in the file system is no named pipe.
      if (!readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("/")) continue;
      if (!isSame(`/proc/${pid}/fd/${fd}`, pipe)) continue;
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1");
      const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? "0", 8);
      found.add(ENDS[flags & O_ACCMODE] ?? "both");
    } catch {
      // Closed in the meantime.
    }
  }
  return found;
}

/** System calls that open a file, by number, with the position of the path among the arguments. */
const OPENING: Record<string, Record<number, number>> = {
  x64: { 2: 0, 257: 1 },
  arm64: { 56: 1 },
};

/** The end of the pipe that a thread waits for in open(2) or openat(2). */
function waitsFor(task: string, pipe: BigIntStats): (typeof ENDS)[number] | "unclear" | undefined {
  let call: string;
  try {
    call = readFileSync(`${task}/syscall`, "latin1");
  } catch {
    return unclearWait(task);
  }
  const [number, ...words] = call.split(" ");
  const at = OPENING[process.arch]?.[Number(number)];
  if (at === undefined || number === "running") return undefined;
  try {
    const path = pathOf(task, Number(words[at]));
    // AT_FDCWD is -100; descriptors are 32 bits wide.
    const folder = at === 0 ? -100 : Number(BigInt.asIntN(32, BigInt(words[0] ?? "0")));
    const from = folder < 0 ? "cwd" : `fd/${folder}`;
    const full = path.startsWith("/") ? `${task}/root${path}` : `${task}/${from}/${path}`;
    return isSame(full, pipe) ? ENDS[Number(words[at + 1]) & O_ACCMODE] : undefined;
  } catch {
    return unclearWait(task);
  }
}

/**
 * For a process that may not be traced (ptrace(2)), wchan still shows the kernel function in which it
 * sleeps.
 */
function unclearWait(task: string): "unclear" | undefined {
  return /wait_for_partner|fifo_open/.test(readOr(`${task}/wchan`, "")) ? "unclear" : undefined;
}

const PAGE = 4096;

/** A string in another process's memory. */
function pathOf(task: string, address: number): string {
  const fd = openSync(`${task}/mem`, "r");
  try {
    const bytes = Buffer.alloc(2 * PAGE);
    // Up to the end of the page, as the next one may not be mapped.
    let length = readSync(fd, bytes, 0, PAGE - (address % PAGE), address);
    if (!bytes.subarray(0, length).includes(0)) {
      length += readSync(fd, bytes, length, PAGE, address + length);
    }
    return bytes.subarray(0, bytes.indexOf(0)).toString();
  } finally {
    closeSync(fd);
  }
}

function isSame(path: string, { dev, ino }: BigIntStats): boolean {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats?.dev === dev && stats.ino === ino;
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return otherwise;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}
