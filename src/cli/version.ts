/** `--version`: the version, and the commit that the program was built from. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { keepExitStatuses } from "../process/child.ts";

/** A binary's commit, which packaging/binary.ts bakes in; not defined in the sources. */
declare const NBD_STREAMING_COMMIT: string | undefined;

const UNKNOWN = "unknown";

/** Why the commit is not known; in a binary, why it was not known to the build. */
const NO_CHECKOUT = `${UNKNOWN}: made of no git checkout`;
const NO_GIT = `${UNKNOWN}: there was no git to ask`;
const NOT_TOLD = `${UNKNOWN}: git could not tell`;

/** The file beside package.json with a package's commit; packaging/pack.ts writes it. */
export const COMMIT_FILE = "COMMIT";

/** Hexadecimal digits of a commit; enough to be unique in any project. */
const DIGITS = 12;

/** Milliseconds for git(1); the repository may be on a network drive that does not answer. */
const GIT_LIMIT = 5_000;

export function versionLine(): string {
  return `nbd-streaming ${packageJson.version} (commit ${ownCommit()})`;
}

/** Where Bun puts the modules of a binary; it is no folder. */
const EMBEDDED = "/$bunfs/";

function ownCommit(): string {
  if (typeof NBD_STREAMING_COMMIT === "string") return NBD_STREAMING_COMMIT;
  if (import.meta.dir.startsWith(EMBEDDED)) return UNKNOWN;
  return commitOf(join(import.meta.dir, "../.."));
}

/**
 * The commit of the sources in a folder: what git(1) says if the folder itself is a checkout, or else
 * {@link COMMIT_FILE}.
 *
 * @returns the first 12 digits, with `-dirty` behind them if files differ from the commit; or "unknown" and
 *   why: see {@link isKnown}
 */
export function commitOf(root: string): string {
  const repository = join(root, ".git");
  // A folder inside of a repository, such as one in node_modules, is not part of its commits.
  if (existsSync(repository)) return checkedOut(root, repository);
  return noted(join(root, COMMIT_FILE)) ?? NO_CHECKOUT;
}

/** False for the "unknown" of {@link commitOf}. */
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
      timeout: GIT_LIMIT,
    });
    return (success ? commitIn(stdout.toString()) : undefined) ?? NOT_TOLD;
  } catch {
    return NOT_TOLD;
  }
}

/** Without the variables by which a git hook names another repository or index (git(1)). */
function gitEnvironment(): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_"));
  // git describe must not write the repository's index.
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
