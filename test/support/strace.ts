/** Faults that nothing else gives: system calls of the program that strace(1) makes fail. */
import { spawnSync } from "node:child_process";

/** False where there is no strace(1), or where it may not trace. */
export const STRACE_WORKS =
  spawnSync("strace", ["-qq", "-o", "/dev/null", "true"], { stdio: "ignore" }).status === 0;

/** For the names of tests that need it. */
export const NEEDS_STRACE = "(skipped where strace(1) cannot trace)";

/**
 * Words in front of a program, of which one call then fails, in all of its threads and processes.
 *
 * @param call such as `close`
 * @param error such as `EIO`
 * @param path only of calls on what is open under this name, as /proc has it
 * @param from which of a thread's calls is the first to fail
 */
export function failing(call: string, error: string, path: string, from = 1): string[] {
  const fault = `inject=${call}:error=${error}:when=${from}+`;
  const inject = [`trace=${call}`, fault].flatMap((e) => ["-e", e]);
  return ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, ...inject];
}
