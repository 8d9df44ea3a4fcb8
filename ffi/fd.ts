/** File descriptors: open(2), close(2), dup(2), read(2), write(2), writev(2), fcntl(2), ioctl(2). */
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

/** A path or other text as a NUL-terminated C string. */
export function cstring(text: string): Uint8Array {
  if (text.includes("\0")) throw new SyscallError("open", ERRNO.EINVAL, JSON.stringify(text));
  return Buffer.from(`${text}\0`);
}

/**
 * open(2), always with O_CLOEXEC, so that no child inherits the descriptor.
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
 * close(2), without the errors of delayed writes. For a descriptor that has been written to, use
 * {@link closeWritten}.
 *
 * @throws SyscallError only when `fd` is not open, which is a bug in the program
 */
export function close(fd: number): void {
  if (libc.close(fd) < 0 && lastErrno() === ERRNO.EBADF) {
    throw new SyscallError("close", ERRNO.EBADF, String(fd));
  }
}

/**
 * close(2) of a descriptor that has been written to: some file systems report only now that data was
 * lost. Not repeated after EINTR: Linux has already released the descriptor, and another thread may
 * have got the number.
 *
 * @throws SyscallError; the descriptor is closed nevertheless
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

/** Puts another open file in the place of a descriptor, at once, close-on-exec (dup3(2)). */
export function replace(fd: number, by: number): void {
  checked("dup3", () => libc.dup3(by, fd, O_CLOEXEC), String(fd));
}

/** True for a descriptor that children do not inherit (F_GETFD, FD_CLOEXEC). */
export function closesOnExec(fd: number): boolean {
  return (checked("fcntl", () => libc.fcntl(fd, F_GETFD, 0)) & FD_CLOEXEC) !== 0;
}

/** Keeps children from inheriting a descriptor (F_SETFD, FD_CLOEXEC). */
export function closeOnExec(fd: number): void {
  checked("fcntl", () => libc.fcntl(fd, F_SETFD, FD_CLOEXEC));
}

/** Sets or clears O_NONBLOCK of the open file, for all processes that share it. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = openFlags(fd);
  const changed = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (changed !== flags) checked("fcntl", () => libc.fcntl(fd, F_SETFL, changed));
}

const int = new Memory(4);

/** Bytes to read from a pipe, by either end, or from a socket (ioctl(2), FIONREAD). */
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
 * Takes an exclusive, advisory lock on a file without waiting (flock(2)). Closing the file releases it.
 *
 * @throws SyscallError EAGAIN while another open file has it
 */
export function lock(fd: number, subject: string): void {
  checked("flock", () => libc.flock(fd, LOCK_EX | LOCK_NB), subject);
}

/**
 * True when no process has a file open for writing: takes a read lease on it and releases it
 * (fcntl(2), F_SETLEASE).
 *
 * @param fd open for reading only
 * @returns undefined where the file system has no leases, or the file is another user's
 */
export function hasNoWriter(fd: number): boolean | undefined {
  return canLease(fd, F_RDLCK);
}

/**
 * True when nobody has a file open, or mapped, but by duplicates of this descriptor: takes a write lease on it
 * and releases it (fcntl(2), F_SETLEASE).
 *
 * @param fd open for writing
 * @returns as {@link hasNoWriter}
 */
export function isOpenNowhereElse(fd: number): boolean | undefined {
  return canLease(fd, F_WRLCK);
}

function canLease(fd: number, kind: number): boolean | undefined {
  // A process that opens the file in between, and may not have it, waits for the release, and the kernel signals
  // this process: by default with SIGIO, which would end it, so by SIGURG, which is ignored.
  libc.fcntl(fd, F_SETSIG, constants.signals.SIGURG);
  if (libc.fcntl(fd, F_SETLEASE, kind) < 0) {
    return lastErrno() === ERRNO.EAGAIN ? false : undefined;
  }
  libc.fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

/** `struct flock` on 64-bit machines: l_type, l_whence (SEEK_SET is 0), l_start, l_len, l_pid. */
const flock = new Memory(32);

/** True when another open file has a lock of any kind on a byte of a file (fcntl(2), F_OFD_GETLK). */
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

/** writev(2) of all remaining entries, without consuming them. @returns bytes written, or WOULD_BLOCK */
export function writev(fd: number, vector: IoVec): number {
  let n: number;
  do n = Number(libc.writev(fd, vector.pointer, vector.count));
  while (n < 0 && interrupted("writev"));
  return n;
}
