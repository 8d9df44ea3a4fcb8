/** Turns failed C calls into JavaScript errors, and retries after EINTR. */
import { type Pointer, read } from "bun:ffi";
import { constants } from "node:os";
import { ERRNO } from "./constants.ts";
import { libc } from "./libc.ts";

/** The result of a non-blocking call that would have to wait (EAGAIN). */
export const WOULD_BLOCK = -1;

/** `EPIPE` for 32, and so on. Of two names with the same number, the first one in `node:os`. */
const NAMES = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) {
  if (!NAMES.has(number)) NAMES.set(number, name);
}

/** True for the errors of a file, or of its file system, that can take no more: ENOSPC, EDQUOT, EFBIG. */
export function isFull(errno: number): boolean {
  return errno === ERRNO.ENOSPC || errno === ERRNO.EDQUOT || errno === ERRNO.EFBIG;
}

/** A failed C call. `code` is errno's name (`"EPIPE"`), `syscall` the function (`"splice"`). */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly code: string;

  /**
   * @param syscall name of the C function
   * @param errno errno(3) after the call
   * @param subject the object of the call, such as a path, for the message
   */
  constructor(
    readonly syscall: string,
    readonly errno: number,
    subject?: string,
  ) {
    super(`${syscall}${subject === undefined ? "" : ` ${subject}`}: ${libc.strerror(errno)}`);
    this.code = NAMES.get(errno) ?? `errno ${errno}`;
  }
}

// errno is a variable of the thread (errno(3)), and each thread has its own instance of this module.
const errnoLocation = libc.__errno_location() as Pointer;

/** The thread's errno. Meaningful only right after a failed call. */
export function lastErrno(): number {
  return read.i32(errnoLocation);
}

/**
 * Examines errno after a call has returned -1. Used as
 * `do n = libc.call(…); while (n < 0 && interrupted("call"));`.
 *
 * @returns true after EINTR (call again), false after EAGAIN (the call would block)
 * @throws SyscallError for every other errno
 */
export function interrupted(syscall: string, subject?: string): boolean {
  const errno = lastErrno();
  if (errno === ERRNO.EINTR) return true;
  if (errno === ERRNO.EAGAIN) return false;
  throw new SyscallError(syscall, errno, subject);
}

/**
 * Runs a call that never blocks, outside of the hot path.
 *
 * @returns the result of the call, 0 or more
 * @throws SyscallError for every errno but EINTR
 */
export function checked(syscall: string, call: () => number, subject?: string): number {
  let result: number;
  do result = call();
  while (result < 0 && interrupted(syscall, subject));
  if (result < 0) throw new SyscallError(syscall, ERRNO.EAGAIN, subject);
  return result;
}
