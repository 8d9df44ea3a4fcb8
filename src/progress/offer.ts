/** Writing to what may not take anything. */
import { writeSync } from "node:fs";
import { POLLOUT } from "../../ffi/constants.ts";
import { PollSet } from "../../ffi/poll.ts";

const poll = new PollSet();

/**
 * Writes what is worth no waiting: to a terminal that is stopped (Ctrl-S), or a pipe that nobody
 * reads, a write would keep the main thread from everything else.
 *
 * @returns false when it was not written, for whatever reason
 */
export function offer(fd: number, text: string): boolean {
  poll.clear();
  poll.add(fd, POLLOUT);
  poll.wait(0);
  return (poll.revents(0) & POLLOUT) !== 0 && write(fd, text);
}

/** Tries for what is not taken at once, a millisecond apart. */
const TRIES = 100;

/** Writes what has to be written. @returns false when it cannot be */
export function write(fd: number, text: string): boolean {
  let rest = Buffer.from(text);
  for (let attempt = 0; attempt < TRIES; attempt++) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
      if (rest.length === 0) return true;
    } catch (error) {
      // A captive command may have made the shared descriptor non-blocking. Anything else means that
      // nobody reads it, or that it is not open: the stream goes on.
      if ((error as { code?: string }).code !== "EAGAIN") return false;
      Bun.sleepSync(1);
    }
  }
  return false;
}
