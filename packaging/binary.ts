/** One file of the program, which needs no Bun. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { COMPILE } from "./compile.ts";

const ROOT = join(import.meta.dir, "..");

/** What a release has, by the ends of the files' names; they are Bun's, too. */
export const TARGETS = ["linux-x64", "linux-x64-musl", "linux-arm64", "linux-arm64-musl"] as const;
export type Target = (typeof TARGETS)[number];

const HINT = "; Bun's program for that machine comes from the npm registry: can this one reach it?";

/**
 * Makes a binary. The same sources, commit and Bun give the same bytes, wherever it is made.
 *
 * @param commit what `--version` names
 * @param target another machine than this one; Bun fetches its own program for it from the registry, once
 * @throws Error with a complaint of one line, if it failed
 */
export function makeBinary(path: string, commit: string, target?: Target): void {
  // The binary of an earlier commit must not stand for this one.
  rmSync(path, { force: true });
  const { success, stderr } = Bun.spawnSync({
    cmd: [
      ...[process.execPath, ...COMPILE],
      ...["--define", `NBD_STREAMING_COMMIT=${JSON.stringify(commit)}`],
      ...(target === undefined ? [] : [`--target=bun-${target}`]),
      ...["src/main.ts", "src/stream.worker.ts", "--outfile", path],
    ],
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (success) return;
  const reason = stderr.toString().trim().replaceAll(/\s+/g, " ") || "bun build gave no reason";
  throw new Error(target === undefined ? reason : `${reason}${HINT}`);
}
