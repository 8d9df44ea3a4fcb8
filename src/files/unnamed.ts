/** A file without a name, in a folder that the user gave. */
import { fstatSync, statfsSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { ERRNO, O_CREAT, O_EXCL, O_RDWR } from "../../ffi/constants.ts";
import { isFull, SyscallError } from "../../ffi/errno.ts";
import { close, open, truncate } from "../../ffi/fd.ts";
import { openUnnamed, punchHole, pwrite, zeroRange } from "../../ffi/file.ts";
import { Memory } from "../../ffi/memory.ts";
import { messageOf } from "../errors.ts";

/** Bytes before the first ones that are written as a test: far more than file systems allocate at once. */
const GAP = 16 * 1024 * 1024;

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
  /** sync_file_range(2) tells of data that was lost on its way to the disk. */
  readonly reportsLosses: boolean;
}

/** The file systems that a folder for large files may be on, by the magic number of statfs(2) (linux/magic.h). */
const FILE_SYSTEMS: Record<number, string> = {
  0xef53: "ext4",
  0x58465342: "XFS",
  0x9123683e: "Btrfs",
  0x2fc12fc1: "ZFS",
  0xf2f52010: "F2FS",
  0xca451a4e: "bcachefs",
  0x01021994: "tmpfs",
  0x794c7630: "overlayfs",
  0x65735546: "FUSE",
  0x6969: "NFS",
  0xff534d42: "CIFS",
  0xfe534d42: "SMB",
  0x00c36400: "CephFS",
};

/**
 * Those that write to the disk themselves, and none that has another one below, like overlayfs (the root of
 * containers), or a server, like FUSE: what is lost there shows only when it is asked for, by fdatasync(2).
 */
const LOCAL: readonly string[] = ["ext4", "XFS", "Btrfs", "F2FS", "bcachefs", "tmpfs"];

function fileSystemOf(fd: number): { name: string; free: number } {
  const { type, bavail, bsize } = statfsSync(`/proc/self/fd/${fd}`);
  // Some machines give it as a signed number.
  const magic = type >>> 0;
  const name = FILE_SYSTEMS[magic] ?? `file system 0x${magic.toString(16)}`;
  return { name, free: bavail * bsize };
}

/** The file system of an open file and the room that it has for this user, for the log. */
export function describeFileSystem(fd: number): string {
  const { name, free } = fileSystemOf(fd);
  return `${name}, ${free} bytes free`;
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
    return { fd, ...tryOut(fd, mustPunch), reportsLosses: LOCAL.includes(fileSystemOf(fd).name) };
  } catch (error) {
    close(fd);
    if (!(error instanceof SyscallError)) throw error;
    throw noSuchFile(error, "name another folder");
  }
}

/** @param other what to do about it if there is room */
function noSuchFile({ errno, message }: SyscallError, other: string): FolderError {
  // Every file system takes a file as long as GAP.
  if (errno === ERRNO.EFBIG) return new FolderError(message, "raise ulimit -f");
  return new FolderError(message, isFull(errno) ? "name a folder with room in it" : other);
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
    const why = `a file cannot be removed from it (${messageOf(error)})`;
    throw new FolderError(why, "remove that file, and name another folder");
  }
  return fd;
}

/** Writes a few bytes behind a gap, and leaves an empty file. @throws SyscallError, FolderError */
function tryOut(fd: number, mustPunch: boolean): Pick<UnnamedFile, "punches" | "zeroesInPlace"> {
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
