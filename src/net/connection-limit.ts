/** How many connections the limit of open descriptors has room for (getrlimit(2), RLIMIT_NOFILE). */
import { readdirSync, readFileSync } from "node:fs";

/**
 * Descriptors that the program takes besides connections once it is at work: the stream thread's, the
 * endpoint and its pipes, a captive command's, files that are read now and then, and connections that
 * wait for a place or are accepted only to be refused.
 */
const RESERVED = 28;

/**
 * A program without descriptors left cannot even accept a connection to refuse it: it would be told of
 * the waiting client again and again.
 *
 * @param each descriptors that a connection takes
 * @returns at least 1; Infinity where the limit is not known
 */
export function connectionLimit(each: number): number {
  try {
    const limits = readFileSync("/proc/self/limits", "latin1");
    const limit = /^Max open files +(\d+)/m.exec(limits)?.[1];
    if (limit === undefined) return Number.POSITIVE_INFINITY;
    const open = readdirSync("/proc/self/fd").length;
    return Math.max(1, Math.floor((Number(limit) - open - RESERVED) / each));
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
