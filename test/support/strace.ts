/** Faults that nothing else gives: system calls of the program that strace(1) makes fail. */
import { spawnSync } from "node:child_process";
import { type Running, start } from "./program.ts";

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

/**
 * Words in front of a program, of which the first such call of each thread then comes that many milliseconds late.
 *
 * @param call a name, or a pattern behind a slash
 * @param side "exit": the call is made in time, and what follows is late
 */
export function delaying(
  call: string,
  milliseconds: number,
  side: "enter" | "exit" = "enter",
): string[] {
  const delay = `inject=${call}:delay_${side}=${milliseconds * 1000}:when=1`;
  return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", `trace=${call}`, "-e", delay];
}

/**
 * Lets calls of a program that is running fail from now on; `using` stops that.
 *
 * @param fault such as `pwrite64:error=EIO:when=1+`, as strace(1) has it after `inject=`
 * @param path only of calls on what is open under this name, without the " (deleted)" of /proc
 */
export async function failNow(pid: number, fault: string, path: string): Promise<Running> {
  const [call] = fault.split(":");
  const inject = [`trace=${call}`, `inject=${fault}`].flatMap((e) => ["-e", e]);
  const words = ["strace", "-f", "-p", String(pid), "-P", path, "-o", "/dev/null", ...inject];
  const running = start(words);
  try {
    await running.saying(/attached/);
  } catch (error) {
    await running[Symbol.asyncDispose]();
    throw error;
  }
  return running;
}
