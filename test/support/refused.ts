/** Streams that are refused before anything starts. */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { type Ended, PROGRAM, start } from "./program.ts";
import { quoted } from "./shell.ts";

/**
 * Expects an exit status, one line that has these texts, and nothing else.
 *
 * @param trace the file that the captive command makes if it is started
 */
export function expectRefused(
  ended: Ended,
  status: number,
  trace: string,
  ...says: readonly string[]
): void {
  // First, so that a stream that goes astray is not shown whole.
  expect(ended.status).toBe(status);
  expect(ended.stdout).toBe("");
  expect(ended.stderr).toMatch(/^nbd-streaming: error: [^\n]+\n$/);
  for (const text of says) expect(ended.stderr).toContain(text);
  expect(existsSync(trace)).toBeFalse();
}

/** script(1) makes terminals; without it there is none to try. */
export const NO_SCRIPT = Bun.which("script") === null;

/** Runs the program on a terminal of its own; what it shows there is given as its stderr. */
export async function onTerminal(words: readonly string[]): Promise<Ended> {
  const line = [...PROGRAM, ...words].map(quoted).join(" ");
  await using running = start(["script", "-qec", line, "/dev/null"]);
  const { status, stdout } = await running.ended();
  return { status, stdout: "", stderr: stdout.replaceAll("\r\n", "\n") };
}
