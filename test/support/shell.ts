/** The program within a command line of the shell, where users redirect it and pipe it on. */
import { type Ended, PROGRAM, start, type StartOptions } from "./program.ts";

/**
 * Runs a command line of sh(1) to its end. In it, `program` is the program, and `"$@"` are `words`.
 */
export async function shell(
  line: string,
  words: readonly string[] = [],
  options: StartOptions = {},
): Promise<Ended> {
  const define = `program() { ${PROGRAM.map(quoted).join(" ")} "$@"; }`;
  await using running = start(["sh", "-c", `${define}\n${line}`, "sh", ...words], {
    ...options,
    group: true,
  });
  return await running.ended();
}

/** A word that the shell takes as it is. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
