/** Types command lines at an interactive shell, completions included. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { bounded, eventually } from "./program.ts";
import { tempFolder } from "./temp.ts";

export interface Typing {
  /** Starts the shell, without the user's settings. */
  readonly cmd: readonly string[];
  /** Lines that load the completions. */
  readonly setup: readonly string[];
  readonly cwd: string;
}

/** Stands for the program: writes its words, one a line, into a file that appears only when it is complete. */
const REPORTER = `#!/bin/sh
for word; do printf '%s\\n' "$word"; done > "$REPORT.part"
mv "$REPORT.part" "$REPORT"
`;

/**
 * Types a command line into a shell in a terminal, Tab included, and Enter.
 *
 * @param line what is typed; its command is nbd-streaming
 * @returns the words that the command gets
 */
export async function typed(line: string, { cmd, setup, cwd }: Typing): Promise<string[]> {
  using folder = tempFolder();
  const [bin, ready, report] = [folder.file("bin"), folder.file("ready"), folder.file("report")];
  mkdirSync(bin);
  writeFileSync(`${bin}/nbd-streaming`, REPORTER, { mode: 0o755 });
  let shown = "";
  const child = Bun.spawn([...cmd], {
    cwd,
    env: {
      ...process.env,
      TERM: "dumb",
      // Where shells look for settings, and leave a history.
      HOME: folder.path,
      XDG_CONFIG_HOME: folder.path,
      XDG_DATA_HOME: folder.path,
      PATH: `${bin}:${process.env.PATH}`,
      REPORT: report,
    },
    terminal: {
      cols: 200,
      rows: 50,
      data: (_, chunk) => (shown += Buffer.from(chunk).toString("latin1")),
    },
  });
  try {
    const type = (text: string) => child.terminal?.write(text);
    for (const one of setup) type(`${one}\n`);
    type(`: > ${ready}\n`);
    await eventually(() => existsSync(ready), `the shell to be ready, which shows ${shown}`);
    type(`${line}\n`);
    await eventually(() => existsSync(report), `the command, in ${shown}`);
    return readFileSync(report, "utf8").split("\n").slice(0, -1);
  } finally {
    child.kill("SIGKILL");
    await bounded(child.exited, "the shell to end");
    child.terminal?.close();
  }
}
