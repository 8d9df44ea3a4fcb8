/** Of what a release is made: a commit, with its time for everything that has one. */
import { join } from "node:path";
import { commitOf, isKnown } from "../../src/cli/version.ts";

/** The top folder of the project. */
export const ROOT = join(import.meta.dir, "../..");

export interface Commit {
  /** What `--version` names. */
  readonly name: string;
  /** Seconds since 1970. Tools that write times get it as SOURCE_DATE_EPOCH (reproducible-builds.org). */
  readonly time: number;
}

/**
 * The commit that is checked out.
 *
 * @throws Error if it is not known, or if files differ from it
 */
export function releasedCommit(): Commit {
  const name = commitOf(ROOT);
  if (!isKnown(name)) throw new Error(`a release is made in a git checkout (commit ${name})`);
  if (name.endsWith("-dirty")) {
    throw new Error("files differ from the commit: commit them first, or take them back");
  }
  // A signature would be shown before the time, if the user's configuration says so.
  const shown = run(["git", "log", "-1", "--no-show-signature", "--format=%ct"]).trim();
  return { name, time: Number(shown) };
}

interface RunOptions {
  /** Default: the project's folder. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a tool. @returns its standard output @throws Error if it fails */
export function run(cmd: readonly string[], { cwd = ROOT, env }: RunOptions = {}): string {
  const [tool = ""] = cmd;
  if (Bun.which(tool) === null) throw new Error(`there is no ${tool}: install it`);
  const { success, stdout, stderr } = Bun.spawnSync({
    cmd: [...cmd],
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (success) return stdout.toString();
  const reason = stderr.toString().trim().replaceAll(/\s+/g, " ");
  throw new Error(`${tool} failed: ${reason || "it gave no reason"}`);
}
