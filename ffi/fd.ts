/** Calls that any file descriptor takes: open(2), close(2), dup(2), read(2), write(2), writev(2). */
import { constants } from "node:os";
import type { Pointer } from "bun:ffi";
import {
  BLKGETSIZE64,
  ERRNO,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_OFD_GETLK,
  F_RDLCK,
  F_SETFD,
  F_SETFL,
  F_SETLEASE,
  F_SETSIG,
  F_UNLCK,
  F_WRLCK,
  FD_CLOEXEC,
  FIONREAD,
  LOCK_EX,
  LOCK_NB,
  O_CLOEXEC,
  O_NONBLOCK,
  SEEK_CUR,
} from "./constants.ts";
import { checked, interrupted, lastErrno, SyscallError } from "./errno.ts";
import { libc } from "./libc.ts";
import { type IoVec, Memory } from "./memory.ts";

/** A path or other text as the NUL-terminated bytes that C expects. */
export function cstring(text: string): Uint8Array {
  if (text.includes("\0")) throw new SyscallError("open", ERRNO.EINVAL, JSON.stringify(text));
  return Buffer.from(`${text}\0`);
}

/**
 * open(2); O_CLOEXEC is always added, so that no child inherits the descriptor by accident.
 *
 * @param flags `O_*` of `constants.ts`
 * @returns the new descriptor
 * @throws SyscallError
 */
export function open(path: string, flags: number, mode = 0): number {
  const name = cstring(path);
  return checked("open", () => libc.open(name, flags | O_CLOEXEC, mode), path);
}

/**
 * close(2) where nothing depends on how it ends: the descriptor is gone in any case, and what close(2)
 * may still have to tell is that data was lost which had been written to it.
 *
 * @throws SyscallError only for what is no descriptor, which is a fault in the program
 */
export function close(fd: number): void {
  if (libc.close(fd) < 0 && lastErrno() === ERRNO.EBADF) {
    throw new SyscallError("close", ERRNO.EBADF, String(fd));
  }
}

/**
 * close(2) of what has been written to: some file systems tell only now that they could not keep it.
 * Not repeated after EINTR: Linux has released the descriptor by then, and another thread may own the
 * number already.
 *
 * @throws SyscallError; the descriptor is gone all the same
 */
export function closeWritten(fd: number): void {
  if (libc.close(fd) < 0 && lastErrno() !== ERRNO.EINTR) {
    throw new SyscallError("close", lastErrno());
  }
}

/** A second descriptor for the same open file, close-on-exec (fcntl(2), F_DUPFD_CLOEXEC). */
export function dup(fd: number): number {
  return checked("dup", () => libc.fcntl(fd, F_DUPFD_CLOEXEC, 0), String(fd));
}

/** True for a descriptor that a program started from here would not get (F_GETFD, FD_CLOEXEC). */
export function closesOnExec(fd: number): boolean {
  return (checked("fcntl", () => libc.fcntl(fd, F_GETFD, 0)) & FD_CLOEXEC) !== 0;
}

/** Keeps a descriptor from programs that are started from here (F_SETFD, FD_CLOEXEC). */
export function closeOnExec(fd: number): void {
  checked("fcntl", () => libc.fcntl(fd, F_SETFD, FD_CLOEXEC));
}

/** Switches O_NONBLOCK on or off for the open file, and for all who share it. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = openFlags(fd);
  const wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted !== flags) checked("fcntl", () => libc.fcntl(fd, F_SETFL, wanted));
}

const int = new Memory(4);

/** Bytes waiting to be read from a pipe (either end will do) or a socket: ioctl(2), FIONREAD. */
export function bytesReadable(fd: number): number {
  let n: number;
  do n = libc.ioctl(fd, FIONREAD, int.at(0));
  while (n < 0 && interrupted("ioctl"));
  return int.view.getInt32(0, true);
}

/** The flags of an open file, `O_*` (fcntl(2), F_GETFL). */
export function openFlags(fd: number): number {
  return checked("fcntl", () => libc.fcntl(fd, F_GETFL, 0));
}

/**
 * Takes the lock that an open file may hold on its file, for as long as it is open, without waiting
 * (flock(2)). Only those who ask for it are kept out.
 *
 * @throws SyscallError EAGAIN while another one has it
 */
export function lock(fd: number, subject: string): void {
  checked("flock", () => libc.flock(fd, LOCK_EX | LOCK_NB), subject);
}

/**
 * Whether nobody has a file open for writing, found by taking a lease on it and giving it back
 * (fcntl(2), F_SETLEASE).
 *
 * @param fd open for reading only
 * @returns undefined where there are no leases, or not on a file of somebody else's
 */
export function hasNoWriter(fd: number): boolean | undefined {
  // Who opens it for writing in between waits until it is given back, which we are told of by a signal:
  // by SIGIO, which ends a program, if not by one that is ignored.
  libc.fcntl(fd, F_SETSIG, constants.signals.SIGURG);
  if (libc.fcntl(fd, F_SETLEASE, F_RDLCK) < 0) {
    return lastErrno() === ERRNO.EAGAIN ? false : undefined;
  }
  libc.fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

/** `struct flock` on 64-bit machines: l_type, l_whence (SEEK_SET is 0), l_start, l_len, l_pid. */
const flock = new Memory(32);

/** True when others have a lock of any kind on a byte of a file (fcntl(2), F_OFD_GETLK). */
export function isLocked(fd: number, byte: number): boolean {
  flock.bytes.fill(0);
  flock.view.setInt16(0, F_WRLCK, true);
  flock.view.setBigInt64(8, BigInt(byte), true);
  flock.view.setBigInt64(16, 1n, true);
  checked("fcntl", () => libc.fcntl(fd, F_OFD_GETLK, flock.at(0)));
  return flock.view.getInt16(0, true) !== F_UNLCK;
}

/** Moves a file's position by `distance` bytes (lseek(2), SEEK_CUR). @returns the new position */
export function seekBy(fd: number, distance: number): number {
  return checked("lseek", () => Number(libc.lseek(fd, distance, SEEK_CUR)));
}

const long = new Memory(8);

/** A block device's size in bytes: ioctl(2), BLKGETSIZE64. */
export function deviceSize(fd: number): number {
  checked("ioctl", () => libc.ioctl(fd, BLKGETSIZE64, long.at(0)));
  return Number(long.view.getBigUint64(0, true));
}

/** Sets a file's length in bytes (ftruncate(2)). */
export function truncate(fd: number, length: number): void {
  checked("ftruncate", () => libc.ftruncate(fd, length));
}

/** Waits until a file's data is on stable storage (fdatasync(2)). */
export function syncData(fd: number): void {
  checked("fdatasync", () => libc.fdatasync(fd));
}

/** read(2). @returns bytes read, 0 at end of file, or WOULD_BLOCK */
export function read(fd: number, address: Pointer, length: number): number {
  let n: number;
  do n = Number(libc.read(fd, address, length));
  while (n < 0 && interrupted("read"));
  return n;
}

/** write(2). @returns bytes written, or WOULD_BLOCK */
export function write(fd: number, address: Pointer, length: number): number {
  let n: number;
  do n = Number(libc.write(fd, address, length));
  while (n < 0 && interrupted("write"));
  return n;
}

/** writev(2) of all that `vector` still holds; does not consume it. @returns as {@link write} */
export function writev(fd: number, vector: IoVec): number {
  let n: number;
  do n = Number(libc.writev(fd, vector.pointer, vector.count));
  while (n < 0 && interrupted("writev"));
  return n;
}
