/** `nbd-streaming check`, and the line that it ends with. */
import { chmodSync, writeFileSync } from "node:fs";
import type { Report } from "../../src/check/report.ts";
import { type Ended, PROGRAM, runProgram, start, type StartOptions } from "./program.ts";
import { quoted } from "./shell.ts";
import { tempFolder } from "./temp.ts";

/** How a check ended, and its report. */
export interface Checked extends Ended {
  readonly report: Report;
}

/** Runs `check --json`. */
export async function check(args: readonly string[], options: StartOptions = {}): Promise<Checked> {
  const ended = await runProgram(["check", "--json", ...args], options);
  return { ...ended, report: JSON.parse(ended.stdout) as Report };
}

/** What a report says of one thing: state and text of each item of this name. */
export function said({ items }: Report, name: string): string[] {
  return items.filter((item) => item.name === name).map(({ state, text }) => `${state}: ${text}`);
}

/** Runs a line as a user would who has the program installed. */
export async function typed(line: string, options: StartOptions = {}): Promise<Ended> {
  using folder = tempFolder();
  const installed = folder.file("nbd-streaming");
  writeFileSync(installed, `#!/bin/sh\nexec ${PROGRAM.map(quoted).join(" ")} "$@"\n`);
  chmodSync(installed, 0o755);
  const env = { ...options.env, PATH: `${folder.path}:${process.env["PATH"]}` };
  await using running = start(["sh", "-c", line], { ...options, env, group: true });
  return await running.ended();
}
