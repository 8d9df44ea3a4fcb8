/** What `--version` says: the version, and the commit that the program was made of. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { keepEndsOfChildren } from "../process/child.ts";

/** A binary's commit, which packaging/build.ts bakes in; not there in the sources. */
declare const NBD_STREAMING_COMMIT: string | undefined;

export const UNKNOWN_COMMIT = "unknown";

/** The file in which a package has its commit, beside package.json; packaging/pack.ts writes it. */
export const COMMIT_FILE = "COMMIT";

/** Hexadecimal digits of a commit: no project is so large that these could mean two. */
const DIGITS = 12;

/** Milliseconds; a repository on a network drive that is away must not keep anybody waiting. */
const PATIENCE = 5_000;

/** The line that `--version` prints. */
export function versionLine(): string {
  return `nbd-streaming ${packageJson.version} (commit ${ownCommit()})`;
}

/** Where Bun puts the modules of a binary, which have no folder then. */
const EMBEDDED = "/$bunfs/";

function ownCommit(): string {
  if (typeof NBD_STREAMING_COMMIT === "string") return NBD_STREAMING_COMMIT;
  if (import.meta.dir.startsWith(EMBEDDED)) return UNKNOWN_COMMIT;
  return commitOf(join(import.meta.dir, "../.."));
}

/**
 * The commit of the sources in a folder: what git says if the folder itself is a checkout, or else
 * what the package has noted.
 *
 * @returns the first 12 digits, with `-dirty` behind them if files differ from the commit;
 *   UNKNOWN_COMMIT when there is no telling
 */
export function commitOf(root: string): string {
  const repository = join(root, ".git");
  // A folder that is merely inside of a repository, as in node_modules, is no part of its commits.
  if (existsSync(repository)) return checkedOut(root, repository) ?? UNKNOWN_COMMIT;
  return noted(join(root, COMMIT_FILE)) ?? UNKNOWN_COMMIT;
}

/** What git(1) says; undefined without git, or if it fails for whatever reason. */
function checkedOut(root: string, repository: string): string | undefined {
  try {
    keepEndsOfChildren();
    const { success, stdout } = Bun.spawnSync({
      cmd: [
        "git",
        `--git-dir=${repository}`,
        `--work-tree=${root}`,
        ...["describe", "--always", "--dirty", "--exclude=*", `--abbrev=${DIGITS}`],
      ],
      cwd: root,
      env: gitEnvironment(),
      stdio: ["ignore", "pipe", "ignore"],
      timeout: PATIENCE,
    });
    return success ? commitIn(stdout.toString()) : undefined;
  } catch {
    return undefined;
  }
}

/** Ours, but for variables by which a hook's git means another repository or index (git(1)). */
function gitEnvironment(): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_"));
  // Looking must not write the repository's index.
  return { ...Object.fromEntries(kept), GIT_OPTIONAL_LOCKS: "0" };
}

function noted(file: string): string | undefined {
  try {
    return commitIn(readFileSync(file, "latin1"));
  } catch {
    return undefined;
  }
}

function commitIn(text: string): string | undefined {
  return /^[0-9a-f]{12,}(-dirty)?$/.exec(text.trim())?.[0];
}
