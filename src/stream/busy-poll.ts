/** How the loop waits: awake for a moment, then asleep. */
import type { PollSet } from "../../ffi/poll.ts";
import { yieldProcessor } from "../../ffi/process.ts";

/**
 * Milliseconds that are worth staying awake for. To sleep and to be woken by another process takes
 * tens of microseconds on both sides, in a virtual machine more, while a busy client sends its next
 * request, and a busy reader empties its pipe, in less.
 */
const AWAKE = 0.1;

/** Times in a row that staying awake may be in vain, before it is given up for the time being. */
const PATIENCE = 8;

/**
 * As long as others are quick to answer, the loop looks again and again for a moment, and lets them
 * have the processor in between; when they are not, it sleeps at once.
 */
export class BusyPoll {
  #patience = PATIENCE;

  /** Waits for a moment, if that is worth it. @returns true when there is something to report */
  spin(poll: PollSet): boolean {
    if (this.#patience === 0) return false;
    const until = performance.now() + AWAKE;
    do {
      if (poll.wait(0) > 0) {
        this.#patience = PATIENCE;
        return true;
      }
      yieldProcessor();
    } while (performance.now() < until);
    this.#patience--;
    return false;
  }

  /** Sleeps in poll(2). @param timeout milliseconds; -1 sleeps until there is something to report */
  sleep(poll: PollSet, timeout: number): void {
    const start = performance.now();
    poll.wait(timeout);
    if (this.#patience > 0) return;
    // A wait this short, being woken included, may be worth staying awake for again.
    if (performance.now() - start < 2 * AWAKE) this.#patience = 1;
  }
}
