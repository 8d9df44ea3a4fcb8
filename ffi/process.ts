/** This process: prctl(2), sched_yield(2). */
import { constants } from "node:os";
import { PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG } from "./constants.ts";
import { checked } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Makes this process the parent of orphaned descendants, in place of init (PR_SET_CHILD_SUBREAPER), so
 * that the processes of a command can be found after the command has ended.
 */
export function becomeSubreaper(): void {
  checked("prctl", () => libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

/** Makes the kernel send SIGTERM to this process when its parent ends (PR_SET_PDEATHSIG). */
export function endWithParent(): void {
  checked("prctl", () => libc.prctl(PR_SET_PDEATHSIG, constants.signals.SIGTERM, 0, 0, 0));
}

/** Lets other runnable threads use the processor first (sched_yield(2)); never fails. */
export function yieldProcessor(): void {
  libc.sched_yield();
}
