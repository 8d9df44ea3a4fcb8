/** O_NONBLOCK on what others share. */
import { O_NONBLOCK } from "../../ffi/constants.ts";
import { openFlags, setNonBlocking } from "../../ffi/fd.ts";

/**
 * Sets the flag for the open file `fd`, and so for all who share it: unlike a pipe, a socket cannot be
 * opened a second time.
 *
 * @returns what puts it back as it was
 */
export function borrowNonBlocking(fd: number): () => void {
  if ((openFlags(fd) & O_NONBLOCK) !== 0) return () => {};
  setNonBlocking(fd, true);
  return () => setNonBlocking(fd, false);
}
