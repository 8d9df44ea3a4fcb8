/** The program within a command line of the shell, where users redirect it and pipe it on. */
import { type Ended, PROGRAM, type Running, start, type StartOptions } from "./program.ts";

/**
 * Starts a command line of sh(1). In it, `program` is the program, and `"$@"` are `words`.
 */
export function startShell(
  line: string,
  words: readonly string[] = [],
  options: StartOptions = {},
): Running {
  const define = `program() { ${PROGRAM.map(quoted).join(" ")} "$@"; }`;
  return start(["sh", "-c", `${define}\n${line}`, "sh", ...words], { ...options, group: true });
}

/** The same, to its end. */
export async function shell(...line: Parameters<typeof startShell>): Promise<Ended> {
  await using running = startShell(...line);
  return await running.ended();
}

/** A word that the shell takes as it is. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
