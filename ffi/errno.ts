/** How a failed C call becomes a JavaScript error, and the one place where EINTR is retried. */
import { type Pointer, read } from "bun:ffi";
import { constants } from "node:os";
import { ERRNO } from "./constants.ts";
import { libc } from "./libc.ts";

/** What a non-blocking call returns when it would have had to wait (EAGAIN). */
export const WOULD_BLOCK = -1;

/** `EPIPE` for 32, and so on. Where two names share a number, the first in `node:os` stands. */
const NAMES = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) {
  if (!NAMES.has(number)) NAMES.set(number, name);
}

/** A C call failed. `code` is errno's name (`"EPIPE"`), `syscall` the function (`"splice"`). */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly code: string;

  /**
   * @param syscall name of the C function
   * @param errno what errno(3) held
   * @param subject what the call was about, such as a path; goes into the message
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

// errno is a variable of the thread (errno(3)), and so is this module's instance of its address.
const errnoLocation = libc.__errno_location() as Pointer;

/** The thread's errno. Only of meaning right after a call that failed. */
export function lastErrno(): number {
  return read.i32(errnoLocation);
}

/**
 * Asks why a call returned -1, to be written as
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
 * Runs a call that never blocks and is off the hot path.
 *
 * @returns what the call returned, 0 or more
 * @throws SyscallError for every errno but EINTR
 */
export function checked(syscall: string, call: () => number, subject?: string): number {
  let result: number;
  do result = call();
  while (result < 0 && interrupted(syscall, subject));
  if (result < 0) throw new SyscallError(syscall, ERRNO.EAGAIN, subject);
  return result;
}
