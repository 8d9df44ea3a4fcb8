/** The cores that a benchmark may use, which are not always all that the machine has. */
import { readFileSync } from "node:fs";

/** Of this process, and so of all that it starts: sched_setaffinity(2), as proc_pid_status(5) shows it. */
export function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s+(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  if (list === undefined) throw new Error("/proc/self/status has no Cpus_allowed_list");
  return coresIn(list);
}

/** @param list such as `0-3,8` (cpuset(7)) */
export function coresIn(list: string): number[] {
  return list.split(",").flatMap((range) => {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
