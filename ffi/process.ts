/** The process itself: prctl(2), sched_yield(2). */
import { constants } from "node:os";
import { PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG } from "./constants.ts";
import { checked } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Makes orphans below this process its children instead of init's (PR_SET_CHILD_SUBREAPER), so that
 * all that a command started can still be found when the command itself is gone.
 */
export function becomeSubreaper(): void {
  checked("prctl", () => libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

/** Has the kernel send SIGTERM to this process when its parent ends (PR_SET_PDEATHSIG). */
export function endWithParent(): void {
  checked("prctl", () => libc.prctl(PR_SET_PDEATHSIG, constants.signals.SIGTERM, 0, 0, 0));
}

/** Lets others that are ready have this thread's processor first (sched_yield(2)); never fails. */
export function yieldProcessor(): void {
  libc.sched_yield();
}
