/** The loop's way to wait: it polls without sleeping for a moment, then it sleeps in poll(2). */
import type { PollSet } from "../../ffi/poll.ts";
import { yieldProcessor } from "../../ffi/process.ts";

/**
 * Milliseconds of polling before the loop sleeps. To sleep and to be woken takes tens of microseconds in both
 * processes, in a virtual machine more. A busy client sends its next request, and a busy reader empties its
 * pipe, in less.
 */
const SPIN = 0.1;

/** After so many vain attempts in a row, the loop sleeps at once. */
const ATTEMPTS = 8;

/** Yields the processor and polls, again and again for a moment, while the other processes are quick. */
export class BusyPoll {
  #attempts = ATTEMPTS;
  /** Milliseconds. */
  readonly #spin: number;

  /**
   * @param processors that this process may use: sched_setaffinity(2), and a container's share of the time
   *   (cpu.max), count. With only one, whoever is waited for has had it after the first yield, and to go on
   *   would take it from him; but a yield costs less than a sleep.
   */
  constructor(processors = navigator.hardwareConcurrency) {
    this.#spin = processors > 1 ? SPIN : 0;
  }

  /** Polls for a moment, unless that was vain lately. @returns true when a descriptor is ready */
  spin(poll: PollSet): boolean {
    if (this.#attempts === 0) return false;
    const until = performance.now() + this.#spin;
    do {
      yieldProcessor();
      if (poll.wait(0) > 0) {
        this.#attempts = ATTEMPTS;
        return true;
      }
    } while (performance.now() < until);
    this.#attempts--;
    return false;
  }

  /** Sleeps in poll(2). @param timeout milliseconds; -1 is no limit */
  sleep(poll: PollSet, timeout: number): void {
    const start = performance.now();
    poll.wait(timeout);
    if (this.#attempts > 0) return;
    // After a wait as short as this, wake-up included, polling may pay off again.
    if (performance.now() - start < 2 * SPIN) this.#attempts = 1;
  }
}
