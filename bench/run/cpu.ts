/** The CPU time of a program and of all that it has started. */
import type { Subprocess } from "bun";
import { processes, statOf } from "../../src/process/proc.ts";

export { becomeSubreaper } from "../../ffi/process.ts";

/** The unit of times in /proc/PID/stat: USER_HZ, the same on all machines that Bun runs on. */
const TICKS_PER_SECOND = 100;

interface Orphan {
  ended: boolean;
  cpuSeconds: number;
}

/**
 * The CPU time of a process that has ended, of its descendants that were waited for, and of those
 * in its process group that were not. The latter are zombies of ours by then (see `orphansEnded`).
 */
export function cpuSeconds(child: Subprocess): number {
  const usage = child.resourceUsage();
  if (usage === undefined) throw new Error(`process ${child.pid} has not ended`);
  const waitedFor = Number(usage.cpuTime.total) / 1e6;
  return orphansOf(child.pid).reduce((sum, orphan) => sum + orphan.cpuSeconds, waitedFor);
}

/**
 * Waits until nothing of a process group runs any more. For a process that has adopted orphans
 * (`becomeSubreaper`): what ends is a zombie from then on, whose CPU time is still there to be read.
 *
 * @throws Error when something still runs after `limit` milliseconds
 */
export async function orphansEnded(group: number, limit: number): Promise<void> {
  const deadline = performance.now() + limit;
  while (orphansOf(group).some((orphan) => !orphan.ended)) {
    if (performance.now() > deadline) throw new Error("something that it started does not end");
    await Bun.sleep(10);
  }
}

/**
 * The CPU time of what a shell has waited for, as its `times` has printed it: a line for itself and
 * a line for its children, of user and system time each.
 */
export function childrenSeconds(times: string): number {
  const [user, system] = times.split("\n")[1]?.split(" ") ?? [];
  return inSeconds(user) + inSeconds(system);
}

function inSeconds(time: string | undefined): number {
  const [, minutes, seconds] = /^(\d+)m(\d+[.,]?\d*)s$/.exec(time ?? "") ?? [];
  if (seconds === undefined) throw new Error(`the shell's times are not to be read: ${time}`);
  return Number(minutes) * 60 + Number(seconds.replace(",", "."));
}

/** The children of this process in the process group of another that has ended. */
function orphansOf(group: number): Orphan[] {
  const found: Orphan[] = [];
  for (const pid of processes()) {
    const fields = statOf(pid);
    if (fields === undefined) continue;
    // Counted from the third of proc(5)'s fields: state, ppid, pgrp, ..., utime (14), stime (15).
    const [state, parent, itsGroup] = fields;
    if (Number(parent) !== process.pid || Number(itsGroup) !== group) continue;
    const ticks = Number(fields[11]) + Number(fields[12]);
    found.push({ ended: state === "Z", cpuSeconds: ticks / TICKS_PER_SECOND });
  }
  return found;
}
