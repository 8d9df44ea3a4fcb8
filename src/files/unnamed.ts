/** A file without a name, in a folder that the user gave. */
import { fstatSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { ERRNO, O_CREAT, O_EXCL, O_RDWR } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open, truncate } from "../../ffi/fd.ts";
import { openUnnamed, punchHole, pwrite, zeroRange } from "../../ffi/file.ts";
import { Memory } from "../../ffi/memory.ts";
import { messageOf } from "../errors.ts";

/** Bytes before the first ones that are written as a test: far more than file systems allocate at once. */
const GAP = 16 * 1024 * 1024;

const NO_ROOM: readonly number[] = [ERRNO.ENOSPC, ERRNO.EDQUOT, ERRNO.EFBIG];

/** Why a folder cannot have such a file, and what to do about it. */
export class FolderError extends Error {
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

/** The file, and what its file system can do by fallocate(2). */
export interface UnnamedFile {
  readonly fd: number;
  /** FALLOC_FL_PUNCH_HOLE. */
  readonly punches: boolean;
  /** FALLOC_FL_ZERO_RANGE. */
  readonly zeroesInPlace: boolean;
}

/**
 * Makes a file that only its descriptor leads to, mode 0600, so nothing is left of it after the process, however
 * that ends. Where the file system has no such files, it has a name for a moment.
 *
 * @param mustPunch it has to be able to give room in the middle back
 * @throws FolderError where that is not possible, or the file system does not have sparse files
 */
export function makeUnnamed(folder: string, mustPunch: boolean): UnnamedFile {
  let fd: number;
  try {
    fd = openInFolder(folder);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const missing = error.errno === ERRNO.ENOENT || error.errno === ERRNO.ENOTDIR;
    const other = missing ? "make the folder first" : "name a folder that you may write to";
    throw noSuchFile(error, other);
  }
  try {
    return { fd, ...tryOut(fd, mustPunch) };
  } catch (error) {
    close(fd);
    if (!(error instanceof SyscallError)) throw error;
    throw noSuchFile(error, "name another folder");
  }
}

/** @param other what to do about it if there is room */
function noSuchFile({ errno, message }: SyscallError, other: string): FolderError {
  return new FolderError(
    message,
    NO_ROOM.includes(errno) ? "name a folder with room in it" : other,
  );
}

function openInFolder(folder: string): number {
  try {
    return openUnnamed(folder);
  } catch (error) {
    // EISDIR is what a kernel or file system says that does not know the flag (open(2)).
    const unknown: readonly number[] = [ERRNO.EOPNOTSUPP, ERRNO.EISDIR];
    if (!(error instanceof SyscallError) || !unknown.includes(error.errno)) throw error;
    return openAndUnlink(folder);
  }
}

function openAndUnlink(folder: string): number {
  const path = join(folder, `.nbd-streaming-${crypto.randomUUID()}`);
  const fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0o600);
  try {
    unlinkSync(path);
  } catch (error) {
    close(fd);
    throw new FolderError(messageOf(error), "remove that file, and name another folder");
  }
  return fd;
}

/** Writes a few bytes behind a gap, and leaves an empty file. @throws SyscallError, FolderError */
function tryOut(fd: number, mustPunch: boolean): Omit<UnnamedFile, "fd"> {
  const bytes = new Memory(4096);
  pwrite(fd, bytes.at(0), bytes.length, GAP);
  if (fstatSync(fd).blocks * 512 >= GAP) {
    throw new FolderError(
      "its file system has no sparse files",
      "name a folder on one that has, such as ext4, XFS, Btrfs or tmpfs",
    );
  }
  const punches = works(() => punchHole(fd, 0, GAP));
  const zeroesInPlace = works(() => zeroRange(fd, 0, bytes.length));
  if (mustPunch && !punches) {
    throw new FolderError(
      "its file system cannot give back a part of a file (FALLOC_FL_PUNCH_HOLE)",
      "name a folder on one that can, such as ext4, XFS, Btrfs or tmpfs",
    );
  }
  truncate(fd, 0);
  return { punches, zeroesInPlace };
}

/** True where the file system knows a call. */
function works(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ERRNO.EOPNOTSUPP) return false;
    throw error;
  }
}
