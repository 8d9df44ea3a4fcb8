/** Files with positions: pread(2), pwrite(2), fallocate(2), O_TMPFILE, holes by lseek(2). */
import type { Pointer } from "bun:ffi";
import {
  ERRNO,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_EXCL,
  O_RDWR,
  O_TMPFILE,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
  SPLICE_F_MOVE,
  SYNC_FILE_RANGE_WAIT_BEFORE,
} from "./constants.ts";
import { checked, interrupted, lastErrno, SyscallError } from "./errno.ts";
import { open } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

/** A position or a length in a file, in bytes: a bigint where a number is not exact. */
type FileOffset = number | bigint;

/**
 * Makes a file without a name, mode 0600, on the file system of a folder (open(2), O_TMPFILE). It is gone
 * with its last descriptor: with O_EXCL nobody can give it a name, not even by a descriptor's path in /proc
 * (linkat(2), AT_SYMLINK_FOLLOW).
 *
 * @throws SyscallError EOPNOTSUPP (or EISDIR of an old kernel) where the file system has no such files
 */
export function openUnnamed(folder: string): number {
  return open(folder, O_TMPFILE | O_EXCL | O_RDWR, 0o600);
}

/** pread(2). @returns bytes read, 0 behind the end of the file */
export function pread(fd: number, address: number, length: number, at: FileOffset): number {
  let n: number;
  do n = Number(libc.pread(fd, address as Pointer, length, at));
  while (n < 0 && interrupted("pread"));
  return moved("pread", n);
}

/** pwrite(2). @returns bytes written, at least 1 */
export function pwrite(fd: number, address: number, length: number, at: FileOffset): number {
  let n: number;
  do n = Number(libc.pwrite(fd, address as Pointer, length, at));
  while (n < 0 && interrupted("pwrite"));
  return advanced("pwrite", n);
}

/** Neither call waits for anything but the disk. */
function moved(syscall: string, n: number): number {
  if (n < 0) throw new SyscallError(syscall, ERRNO.EAGAIN);
  return n;
}

/** The same for calls that are repeated until all is written: one that writes nothing would be for ever. */
function advanced(syscall: string, n: number): number {
  if (n === 0) throw new SyscallError(syscall, ERRNO.EIO);
  return moved(syscall, n);
}

/** Sets a file's position (lseek(2), SEEK_SET), from where splice(2) and read(2) go on. */
export function seekTo(fd: number, at: FileOffset): void {
  checked("lseek", () => Number(libc.lseek(fd, at, SEEK_SET)));
}

/** A file's length in bytes, to which its position is set (lseek(2), SEEK_END). */
export function seekToEnd(fd: number): FileOffset {
  const end = libc.lseek(fd, 0, SEEK_END);
  if (end < 0) throw new SyscallError("lseek", lastErrno());
  return end;
}

/** The first position from `at` on where there is data; undefined if there is none up to the end (lseek(2)). */
export function nextData(fd: number, at: FileOffset): FileOffset | undefined {
  return seekFor(fd, at, SEEK_DATA);
}

/**
 * The first position from `at` on that is in a hole, or the end of the file (lseek(2)); undefined if `at` is
 * behind it.
 */
export function nextHole(fd: number, at: FileOffset): FileOffset | undefined {
  return seekFor(fd, at, SEEK_HOLE);
}

function seekFor(fd: number, at: FileOffset, whence: number): FileOffset | undefined {
  const found = libc.lseek(fd, at, whence);
  if (found >= 0) return found;
  // It is not known to be interrupted, but a network file system may ask its server.
  if (lastErrno() === ERRNO.EINTR) return seekFor(fd, at, whence);
  if (lastErrno() === ERRNO.ENXIO) return undefined;
  throw new SyscallError("lseek", lastErrno());
}

/** Turns [at, at + length) into a hole, and keeps the file's length (fallocate(2), FALLOC_FL_PUNCH_HOLE). */
export function punchHole(fd: number, at: FileOffset, length: FileOffset): void {
  allocateBy(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, fd, at, length);
}

/** Turns [at, at + length) into zeroes that have room on the disk (fallocate(2), FALLOC_FL_ZERO_RANGE). */
export function zeroRange(fd: number, at: FileOffset, length: FileOffset): void {
  allocateBy(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, fd, at, length);
}

/** Takes room on the disk for [at, at + length); data that is there stays (fallocate(2)). */
export function allocate(fd: number, at: FileOffset, length: FileOffset): void {
  allocateBy(FALLOC_FL_KEEP_SIZE, fd, at, length);
}

function allocateBy(mode: number, fd: number, at: FileOffset, length: FileOffset): void {
  checked("fallocate", () => libc.fallocate(fd, mode, at, length));
}

/** A position behind everything that a file system can store. */
const FAR = 2n ** 62n;

/**
 * Asks whether the kernel has failed to write to the disk what was written to the file since it was opened: it
 * reports that once, and may forget the data. Waits for nothing, and writes nothing: there is nothing at the
 * position that it names (sync_file_range(2), SYNC_FILE_RANGE_WAIT_BEFORE).
 *
 * @throws SyscallError EIO, ENOSPC or EDQUOT if so
 */
export function reportLostWrites(fd: number): void {
  const range = () => libc.sync_file_range(fd, FAR, 1, SYNC_FILE_RANGE_WAIT_BEFORE);
  checked("sync_file_range", range);
}

const position = new Memory(8);

/**
 * splice(2) from a pipe, which is not empty, to a position of a file. Waits for the disk.
 *
 * @returns bytes moved, at least 1
 */
export function spliceInto(pipe: number, fd: number, at: FileOffset, length: number): number {
  position.view.setBigInt64(0, BigInt(at), true);
  let n: number;
  do n = Number(libc.splice(pipe, null, fd, position.at(0), length, SPLICE_F_MOVE));
  while (n < 0 && interrupted("splice"));
  return advanced("splice", n);
}
