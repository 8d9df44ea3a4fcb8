/**
 * Which processes have a named pipe open, as /proc tells (proc(5)).
 *
 * Opening the pipe to find out would not do: a process that waits in open(2) for the other end would be let
 * in by that (fifo(7)), and see end of file when it is closed again. For the same reason nobody can say
 * which pipe such a process waits for: the path is in its memory only.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { O_ACCMODE } from "../../ffi/constants.ts";
import { processes } from "./proc.ts";
import { isSameFile } from "./same-file.ts";

/** A process by its name, as ps(1) has it. */
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
  /** The number of processes that may not be looked into: they belong to others. */
  readonly hidden: number;
}

const ENDS = ["reading", "writing", "both"] as const;

/** @param path where the pipe is */
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

/** The ends of the pipe that a process has open. @throws when it may not be looked into */
function openEnds(pid: number, path: string): Set<PipeUser["end"]> {
  const found = new Set<PipeUser["end"]>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      // A descriptor without a path in the file system is no named pipe.
      if (!readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("/")) continue;
      if (!isSameFile(`/proc/${pid}/fd/${fd}`, path)) continue;
      const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1");
      const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? "0", 8);
      found.add(ENDS[flags & O_ACCMODE] ?? "both");
    } catch {
      // Closed in the meantime.
    }
  }
  return found;
}

/** True where a thread sleeps in the kernel's function for that (fs/pipe.c). */
function waitsInOpen(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).some((task) => {
    try {
      const place = readFileSync(`/proc/${pid}/task/${task}/wchan`, "latin1");
      return place === "wait_for_partner" || place === "fifo_open";
    } catch {
      // It has ended, or is another user's.
      return false;
    }
  });
}

/** True for those of the kernel, which have no command line, and no descriptors either. */
function isKernelThread(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1") === "";
  } catch {
    return true;
  }
}
