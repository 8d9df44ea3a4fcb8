/**
 * Finds the processes that have a named pipe open in /proc (proc(5)).
 *
 * Opening the pipe would let in a process that waits in open(2) for the other end (fifo(7)), and closing
 * it would be end of file for that process. Which pipe it waits for is unknown: only its memory has the
 * path.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { accessMode, processes, readOrNothing } from "./proc.ts";
import { isSameFile } from "./same-file.ts";

/** A process with its name (proc(5), comm). */
export interface NamedProcess {
  readonly pid: number;
  readonly name: string;
}

/** A process at one end of the pipe, or at both. */
export interface PipeUser extends NamedProcess {
  readonly end: "reading" | "writing" | "both";
}

export interface PipeUsers {
  readonly users: readonly PipeUser[];
  /** Processes that wait in open(2) for the other end of a named pipe, which may be this one. */
  readonly waiting: readonly NamedProcess[];
  /** The number of other users' processes, which are not readable. */
  readonly hidden: number;
}

const ENDS = ["reading", "writing", "both"] as const;

export function pipeUsers(path: string): PipeUsers {
  const users: PipeUser[] = [];
  const waiting: NamedProcess[] = [];
  let hidden = 0;
  for (const pid of processes()) {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
      for (const end of openEnds(pid, path)) users.push({ pid, name, end });
      if (waitsInOpen(pid)) waiting.push({ pid, name });
    } catch (error) {
      if ((error as { code?: string }).code === "EACCES" && !isKernelThread(pid)) hidden++;
    }
  }
  return { users, waiting, hidden };
}

/** The ends of the pipe that a process has open. @throws Error when it is not readable */
function openEnds(pid: number, path: string): Set<PipeUser["end"]> {
  const found = new Set<PipeUser["end"]>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      // A named pipe has a path.
      if (!readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("/")) continue;
      if (!isSameFile(`/proc/${pid}/fd/${fd}`, path)) continue;
      found.add(ENDS[accessMode(pid, fd)] ?? "both");
    } catch {
      // Closed in the meantime.
    }
  }
  return found;
}

/** True when a thread sleeps in the kernel's function for that (fs/pipe.c). */
function waitsInOpen(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).some((task) => {
    const place = readOrNothing(`/proc/${pid}/task/${task}/wchan`);
    return place === "wait_for_partner" || place === "fifo_open";
  });
}

/** True for the kernel's threads, which have no command line, and no descriptors. */
function isKernelThread(pid: number): boolean {
  return (readOrNothing(`/proc/${pid}/cmdline`) ?? "") === "";
}
