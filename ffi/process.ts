/** The process itself: prctl(2). */
import { PR_SET_CHILD_SUBREAPER } from "./constants.ts";
import { checked } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Makes orphans below this process its children instead of init's (PR_SET_CHILD_SUBREAPER), so that
 * all that a command started can still be found when the command itself is gone.
 */
export function adoptOrphans(): void {
  checked("prctl", () => libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}
