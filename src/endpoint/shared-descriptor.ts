/**
 * Non-blocking use of a descriptor that other processes share, such as the shell's other commands:
 * O_NONBLOCK is a flag of the open file, so they would see it.
 */
import { ERRNO, O_NONBLOCK } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open, openFlags, setNonBlocking } from "../../ffi/fd.ts";

/**
 * Opens a pipe again, non-blocking (proc(5)), and closes the shared descriptor.
 *
 * @param access O_RDONLY or O_WRONLY
 * @returns the new descriptor; `shared` itself, made non-blocking, where the pipe cannot be opened
 *   again
 * @throws SyscallError
 */
export function reopenPipe(shared: number, access: number): number {
  let fd: number;
  try {
    fd = open(`/proc/self/fd/${shared}`, access | O_NONBLOCK);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno === ERRNO.ENXIO) throw error;
    // The pipe is another user's, or there is no /proc.
    setNonBlocking(shared, true);
    return shared;
  }
  close(shared);
  return fd;
}

/**
 * Makes a shared socket non-blocking, for the other processes too: unlike a pipe, it cannot be opened
 * again.
 *
 * @returns restores the flag, as far as possible
 */
export function setSharedNonBlocking(fd: number): () => void {
  if ((openFlags(fd) & O_NONBLOCK) !== 0) return () => {};
  setNonBlocking(fd, true);
  return () => {
    try {
      setNonBlocking(fd, false);
    } catch (error) {
      // A flag that cannot be restored does not make the stream fail.
      if (!(error instanceof SyscallError) || error.errno === ERRNO.EBADF) throw error;
    }
  };
}
