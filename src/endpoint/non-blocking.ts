/** O_NONBLOCK on what others share. */
import { ERRNO, O_NONBLOCK } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { openFlags, setNonBlocking } from "../../ffi/fd.ts";

/**
 * Sets the flag for the open file `fd`, and so for all who share it: unlike a pipe, a socket cannot be
 * opened a second time.
 *
 * @returns what puts it back as it was, as far as it can
 */
export function borrowNonBlocking(fd: number): () => void {
  if ((openFlags(fd) & O_NONBLOCK) !== 0) return () => {};
  setNonBlocking(fd, true);
  return () => {
    try {
      setNonBlocking(fd, false);
    } catch (error) {
      // How others find it at the end of a stream does not decide on the stream.
      if (!(error instanceof SyscallError) || error.errno === ERRNO.EBADF) throw error;
    }
  };
}
