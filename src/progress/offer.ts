/** Writing to what may not take anything. */
import { POLLOUT } from "../../ffi/constants.ts";
import { PollSet } from "../../ffi/poll.ts";
import { writeAll } from "../process/write-all.ts";

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
  return (poll.revents(0) & POLLOUT) !== 0 && writeAll(fd, text);
}
