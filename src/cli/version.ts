/** What `--version` says: the version, and the commit that the program was made of. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { keepExitStatuses } from "../process/child.ts";

/** A binary's commit, which packaging/build.ts bakes in; not there in the sources. */
declare const NBD_STREAMING_COMMIT: string | undefined;

const UNKNOWN = "unknown";

/** Why there is no telling. In a binary these are of the place and the time where it was made. */
const NO_CHECKOUT = `${UNKNOWN}: made of no git checkout`;
const NO_GIT = `${UNKNOWN}: there was no git to ask`;
const NOT_TOLD = `${UNKNOWN}: git could not tell`;

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
  if (import.meta.dir.startsWith(EMBEDDED)) return UNKNOWN;
  return commitOf(join(import.meta.dir, "../.."));
}

/**
 * The commit of the sources in a folder: what git says if the folder itself is a checkout, or else
 * what the package has noted.
 *
 * @returns the first 12 digits, with `-dirty` behind them if files differ from the commit;
 *   "unknown" and why when there is no telling: see {@link isKnown}
 */
export function commitOf(root: string): string {
  const repository = join(root, ".git");
  // A folder that is merely inside of a repository, as in node_modules, is no part of its commits.
  if (existsSync(repository)) return checkedOut(root, repository);
  return noted(join(root, COMMIT_FILE)) ?? NO_CHECKOUT;
}

/** True for a commit that {@link commitOf} could tell. */
export function isKnown(commit: string): boolean {
  return !commit.startsWith(UNKNOWN);
}

/** What git(1) says, or why it does not. */
function checkedOut(root: string, repository: string): string {
  if (Bun.which("git") === null) return NO_GIT;
  try {
    keepExitStatuses();
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
    return (success ? commitIn(stdout.toString()) : undefined) ?? NOT_TOLD;
  } catch {
    return NOT_TOLD;
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
