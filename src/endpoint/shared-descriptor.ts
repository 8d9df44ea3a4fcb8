/** Non-blocking use of a descriptor that other processes share: O_NONBLOCK belongs to the open file, not to us. */
import { ERRNO, O_NONBLOCK } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open, openFlags, setNonBlocking } from "../../ffi/fd.ts";

/**
 * A fresh, non-blocking description of the pipe `given` (proc(5)), which is closed: O_NONBLOCK on
 * the given one would be seen by everybody who shares it, such as the shell's other commands.
 *
 * @param access O_RDONLY or O_WRONLY
 * @returns the descriptor to use; `given` itself where no other is to be had
 * @throws SyscallError
 */
export function reopenPipe(given: number, access: number): number {
  let fd: number;
  try {
    fd = open(`/proc/self/fd/${given}`, access | O_NONBLOCK);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno === ERRNO.ENXIO) throw error;
    // The pipe is another user's, or there is no /proc.
    setNonBlocking(given, true);
    return given;
  }
  close(given);
  return fd;
}

/**
 * Sets the flag for the open file `fd`, and so for all who share it: unlike a pipe, a socket cannot be
 * opened a second time.
 *
 * @returns what puts it back as it was, as far as it can
 */
export function setSharedNonBlocking(fd: number): () => void {
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
