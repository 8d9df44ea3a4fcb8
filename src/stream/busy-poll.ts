/** How the loop waits: it polls without sleeping for a moment, then it sleeps in poll(2). */
import type { PollSet } from "../../ffi/poll.ts";
import { yieldProcessor } from "../../ffi/process.ts";

/**
 * Milliseconds of polling before the loop sleeps. To sleep and to be woken by another process takes
 * tens of microseconds on both sides, in a virtual machine more, while a busy client sends its next
 * request, and a busy reader empties its pipe, in less.
 */
const SPIN = 0.1;

/** Times in a row that polling may be in vain before the loop sleeps at once. */
const ATTEMPTS = 8;

/** Polls again and again for a moment, and yields the processor in between, as long as others are quick. */
export class BusyPoll {
  #attempts = ATTEMPTS;

  /** Polls for a moment, if that is worth it. @returns true when there is something to report */
  spin(poll: PollSet): boolean {
    if (this.#attempts === 0) return false;
    const until = performance.now() + SPIN;
    do {
      if (poll.wait(0) > 0) {
        this.#attempts = ATTEMPTS;
        return true;
      }
      yieldProcessor();
    } while (performance.now() < until);
    this.#attempts--;
    return false;
  }

  /** Sleeps in poll(2). @param timeout milliseconds; -1 sleeps until there is something to report */
  sleep(poll: PollSet, timeout: number): void {
    const start = performance.now();
    poll.wait(timeout);
    if (this.#attempts > 0) return;
    // For a wait this short, being woken included, polling may be worth it again.
    if (performance.now() - start < 2 * SPIN) this.#attempts = 1;
  }
}
