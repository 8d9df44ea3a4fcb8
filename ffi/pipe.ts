/** Pipes: mkfifo(3), pipe(2), their size, splice(2) and tee(2). */
import { readFileSync } from "node:fs";
import {
  F_GETPIPE_SZ,
  F_SETPIPE_SZ,
  O_CLOEXEC,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from "./constants.ts";
import { checked, interrupted, SyscallError } from "./errno.ts";
import { close, cstring } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

/** mkfifo(3). @throws SyscallError (EEXIST among others) */
export function mkfifo(path: string, mode: number): void {
  const name = cstring(path);
  checked("mkfifo", () => libc.mkfifo(name, mode), path);
}

/** The descriptors of a pipe. */
export interface Pipe {
  readonly read: number;
  readonly write: number;
}

/** pipe2(2), close-on-exec. @param flags O_NONBLOCK or 0 */
export function pipe(flags = 0): Pipe {
  const pair = new Memory(8);
  checked("pipe2", () => libc.pipe2(pair.at(0), flags | O_CLOEXEC));
  return { read: pair.view.getInt32(0, true), write: pair.view.getInt32(4, true) };
}

/** Closes both ends. */
export function closePipe({ read, write }: Pipe): void {
  close(read);
  close(write);
}

/** A pipe's capacity in bytes (F_GETPIPE_SZ). */
export function pipeSize(fd: number): number {
  return checked("fcntl", () => libc.fcntl(fd, F_GETPIPE_SZ, 0));
}

/**
 * Grows a pipe to the largest capacity that the kernel grants (F_SETPIPE_SZ): the machine's limit, or
 * less when the user's pages for pipes are used up (EPERM, pipe(7)).
 *
 * @returns the capacity in bytes
 */
export function growPipe(fd: number): number {
  const now = pipeSize(fd);
  for (let wanted = largestPipe(); wanted > now; wanted = Math.floor(wanted / 2)) {
    try {
      return checked("fcntl", () => libc.fcntl(fd, F_SETPIPE_SZ, wanted));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
  }
  return now;
}

/** The limit for a pipe of an unprivileged user, in bytes (pipe(7)). */
function largestPipe(): number {
  try {
    return Number.parseInt(readFileSync("/proc/sys/fs/pipe-max-size", "latin1"), 10);
  } catch {
    return 1 << 20; // the kernel's default, for a system without /proc
  }
}

/**
 * splice(2): moves up to `length` bytes between descriptors, at least one of them a pipe, without
 * waiting.
 *
 * @returns bytes moved, 0 at the input's end of file, or WOULD_BLOCK when the input is empty or the
 *   output full
 */
export function splice(from: number, to: number, length: number): number {
  let n: number;
  do n = Number(libc.splice(from, null, to, null, length, FLAGS));
  while (n < 0 && interrupted("splice"));
  return n;
}

/** tee(2): copies up to `length` bytes from pipe to pipe, which stay in `from`. @returns as {@link splice} */
export function tee(from: number, to: number, length: number): number {
  let n: number;
  do n = Number(libc.tee(from, to, length, FLAGS));
  while (n < 0 && interrupted("tee"));
  return n;
}
