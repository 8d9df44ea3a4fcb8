/** What the kernel tells of a process (proc(5)). */
import { readdirSync, readFileSync } from "node:fs";
import { eventually } from "./program.ts";

/** How many descriptors it has open. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Bytes of memory of its own that are resident: no file can be dropped for them. */
export function anonymousMemory(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** Ticks (10 ms) of processor time that it has had. */
export function processorTicks(pid: number): number {
  const [, rest = ""] = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ");
  const fields = rest.split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Waits until somebody listens at a Unix socket, by the path that it was made with: it is there before. */
export function listeningAt(path: string): Promise<void> {
  // __SO_ACCEPTCON, SOCK_STREAM, SS_UNCONNECTED.
  const entry = new RegExp(` 00010000 0001 01 +\\d+ ${RegExp.escape(path)}$`, "m");
  const listens = () => entry.test(readFileSync("/proc/net/unix", "latin1"));
  return eventually(listens, `somebody to listen at ${path}`);
}
