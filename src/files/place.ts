/**
 * The destination of a report or a process id.
 *
 * A user who names a wrong file must not lose it. So a file under a name that the user gave is written,
 * replaced or removed only if it does not exist yet, was recognisably written by an earlier run, is
 * empty (mktemp(1)), or is a symbolic link; the link's target stays.
 */
import {
  accessSync,
  constants,
  lstatSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { O_ACCMODE, O_RDONLY } from "../../ffi/constants.ts";
import { close, hasNoWriter, isLocked, open, openFlags } from "../../ffi/fd.ts";
import { messageOf } from "../errors.ts";
import type { Words } from "../messages/notice.ts";
import { optionError } from "../messages/notice-error.ts";
import { isInherited } from "../process/inherited.ts";
import { isSameFile } from "../process/same-file.ts";

export type Place =
  /** A name in a folder, for a new file that is renamed to it. */
  | { readonly kind: "name" }
  /** A pipe or a character device, which is written to directly. */
  | { readonly kind: "device" }
  /** This process's descriptor, of /dev/stdout, /dev/fd/N and the like. */
  | { readonly kind: "descriptor"; readonly fd: number };

/** The destination cannot be used: the message starts with "it"; `hint` says what to do about it. */
export class PlaceError extends Error {
  override readonly name = "PlaceError";
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

/** What went wrong with a destination, and what to do about it. */
export function explainFailure(error: unknown): string {
  const hint = error instanceof PlaceError ? error.hint : "check the folder";
  return `${messageOf(error)}; ${hint}`;
}

/** The most bytes that a file of an earlier run can have. */
const MAX_LENGTH = 64 * 1024;

/**
 * Examines `path`.
 *
 * @param what the file will be, for messages: `a checksum`
 * @param isEarlier returns true for the text of such a file from an earlier run
 * @throws PlaceError when it must not be written; Error of the file system when the folder cannot be
 *   used
 */
export function placeOf(path: string, what: string, isEarlier: (text: string) => boolean): Place {
  const fd = descriptorOf(path);
  if (fd !== undefined) {
    requireWritable(fd);
    return { kind: "descriptor", fd };
  }
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isFIFO() || stats?.isCharacterDevice()) return { kind: "device" };
  if (stats !== undefined && !stats.isFile()) {
    throw new PlaceError(`it is ${kindOf(stats)}`, "name another file");
  }
  if (path.endsWith("/")) throw new PlaceError("it can only be a folder", "name a file");
  accessSync(dirname(path), constants.W_OK);
  const link = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  if (stats !== undefined && !link && stats.size > 0) {
    const text = stats.size > MAX_LENGTH ? undefined : readFileSync(path, "utf8");
    if (text === undefined || !isEarlier(text)) {
      throw new PlaceError(`it is there and is not ${what}`, "name another file, or remove it");
    }
  }
  return { kind: "name" };
}

function requireWritable(fd: number): void {
  let flags: number | undefined;
  try {
    if (isInherited(fd)) flags = openFlags(fd);
  } catch {
    // Not open.
  }
  if (flags === undefined) {
    throw new PlaceError(
      `descriptor ${fd} is not open`,
      `redirect it where the program is started: ${fd}>FILE`,
    );
  }
  if ((flags & O_ACCMODE) === O_RDONLY) {
    throw new PlaceError("it is open for reading only", "name another file");
  }
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  return stats.isBlockDevice() ? "a block device" : "a socket";
}

/** The limit of path_resolution(7). */
export const MOST_LINKS = 40;

/**
 * The descriptor of this process that a path leads to (proc(5)). It may be of a file, but no other file
 * could be renamed to the path.
 */
function descriptorOf(path: string): number | undefined {
  let at = path;
  for (let links = 0; links < MOST_LINKS; links++) {
    try {
      const folder = realpathSync(dirname(at));
      const [, pid] = /^\/proc\/(\d+)(?:\/task\/\d+)?\/fd$/.exec(folder) ?? [];
      if (pid !== undefined) return Number(pid) === process.pid ? Number(basename(at)) : undefined;
      at = resolve(folder, readlinkSync(at));
    } catch {
      // No link, or nothing there.
      return undefined;
    }
  }
  return undefined;
}

/** A file that the user has named. */
export interface NamedFile {
  /** The option or argument, for messages: `--summary`, `IMAGE`. */
  readonly name: Words;
  readonly path: string;
}

/** @throws UserError ERR_USAGE when `own` is, or would be, the same file as one of the others */
export function requireDifferentFile(own: NamedFile, others: readonly NamedFile[]): void {
  const same = others.find(({ path }) => isSamePlace(own.path, path));
  if (same === undefined) return;
  throw optionError({ code: "ONE_FILE", own: own.name, other: same.name, path: own.path });
}

function isSamePlace(one: string, other: string): boolean {
  // Several writers may share a character device, such as a terminal or /dev/null.
  if (isCharacterDevice(one) || isCharacterDevice(other)) return false;
  return canonical(one) === canonical(other) || isSameFile(one, other);
}

function isCharacterDevice(path: string): boolean {
  try {
    return statSync(path).isCharacterDevice();
  } catch {
    return false;
  }
}

/** The path with its folder resolved, but not a symbolic link of that name. */
function canonical(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return resolve(path);
  }
}

/** A unique name for a file that will be renamed to `path`. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.nbd-streaming-${crypto.randomUUID().slice(-12)}`);
}

/**
 * The byte that qemu's programs lock while they have an image open for writing (block/file-posix.c:
 * RAW_LOCK_PERM_BASE plus the bit of BLK_PERM_WRITE).
 */
const QEMU_WRITE_LOCK = 101;

/** True when a program, such as a VM or a loop device, is known to have the file open for writing. */
export function isBeingWritten(path: string): boolean {
  let fd: number;
  try {
    fd = open(path, O_RDONLY);
  } catch {
    return false;
  }
  try {
    const none = hasNoWriter(fd);
    return none === undefined ? isLocked(fd, QEMU_WRITE_LOCK) : !none;
  } catch {
    // The file system has no locks.
    return false;
  } finally {
    close(fd);
  }
}
