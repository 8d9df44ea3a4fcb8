/** What was measured, by its commit. */
import { commitOf, isKnown } from "../../src/cli/version.ts";

/** What a benchmark writes itself makes no other program. */
const RESULTS = "bench/results";

const DIRTY = /-dirty$/;

/** @param root a checkout of the project */
export function commitFact(root: string): string {
  const commit = commitOf(root);
  if (!isKnown(commit)) return `Commit ${commit}`;
  return `Commit ${commit.replace(DIRTY, "")}${isChanged(root) ? " and changes" : ""}`;
}

/** Whether anything but the results differs from the commit; files that git does not know count, too. */
function isChanged(root: string): boolean {
  const { success, stdout } = Bun.spawnSync({
    cmd: ["git", "status", "--porcelain", "--", ".", `:(exclude)${RESULTS}`],
    cwd: root,
    // As a look only, it must not write the repository's index.
    env: { ...process.env, GIT_OPTIONAL_LOCKS: "0" },
    stdio: ["ignore", "pipe", "ignore"],
  });
  return !success || stdout.length > 0;
}
