/**
 * Where a small text of ours goes: a report, or a process id.
 *
 * Whoever names a file by mistake is not to lose it. So what is written, replaced or removed under a
 * name that the user gave is nothing yet, recognisably one of ours from another time, an empty file
 * (mktemp(1)), or a symbolic link, never what that leads to.
 */
import {
  accessSync,
  type BigIntStats,
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

export type Place =
  /** A name in a folder, for a file that is made anew and then renamed. */
  | { readonly kind: "name" }
  /** A pipe or a character device, which is written to as it is. */
  | { readonly kind: "device" }
  /** A descriptor of ours behind /dev/stdout, /dev/fd/N and the like. */
  | { readonly kind: "descriptor"; readonly fd: number };

/** A text of ours cannot go there: `it …` what it is instead; `hint` says what to do about it. */
export class PlaceError extends Error {
  override readonly name = "PlaceError";
  constructor(
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

/** Why a text of ours has not got to its place, and what to do. */
export function whyNot(error: unknown): string {
  const hint = error instanceof PlaceError ? error.hint : "check the folder";
  return `${messageOf(error)}; ${hint}`;
}

/** Bytes of a file that is looked into: none of ours is longer. */
const LONGEST = 64 * 1024;

/**
 * What is at `path`, if a text of ours may go there.
 *
 * @param what it is to be, for messages: `a checksum`
 * @param isOurs tells the text of such a file from others
 * @throws PlaceError when it may not; Error of the file system when the folder cannot be used
 */
export function placeOf(path: string, what: string, isOurs: (text: string) => boolean): Place {
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
    const text = stats.size > LONGEST ? undefined : readFileSync(path, "utf8");
    if (text === undefined || !isOurs(text)) {
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
    // It is not open.
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

/** As many symbolic links as path_resolution(7) follows. */
const MOST_LINKS = 40;

/**
 * The descriptor of this process that a path leads to (proc(5)). What it has open may be a file, but
 * the name is not one in a folder, where another file could be put in its place.
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
      // It is no link, or is not there.
      return undefined;
    }
  }
  return undefined;
}

/** A file that the user has named, and by what. */
export interface NamedFile {
  /** For messages: the option that names it. */
  readonly name: Words;
  readonly path: string;
}

/** @throws UserError ERR_USAGE when `own` is, or would be, one of the others, by whatever name */
export function requireOtherThan(own: NamedFile, others: readonly NamedFile[]): void {
  const same = others.find(({ path }) => isSamePlace(own.path, path));
  if (same === undefined) return;
  throw optionError({ code: "ONE_FILE", own: own.name, other: same.name, path: own.path });
}

/** But for character devices, of which anybody may take what anybody gives. */
function isSamePlace(one: string, other: string): boolean {
  const [a, b] = [statOrNothing(one), statOrNothing(other)];
  if (a?.isCharacterDevice() || b?.isCharacterDevice()) return false;
  if (canonical(one) === canonical(other)) return true;
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

function statOrNothing(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

/** A name in a folder by that folder's own name; what it leads to does not matter. */
function canonical(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return resolve(path);
  }
}

/** A name that nobody else has, for a file that is to be renamed to `path`. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.nbd-streaming-${crypto.randomUUID().slice(-12)}`);
}

/**
 * The byte on which all programs of qemu's have a lock that have an image open for writing
 * (block/file-posix.c: RAW_LOCK_PERM_BASE, and the bit of BLK_PERM_WRITE).
 */
const QEMU_WRITES = 101;

/** True when a program is known to have the file open for writing, such as a VM or a loop device. */
export function isBeingWritten(path: string): boolean {
  let fd: number;
  try {
    fd = open(path, O_RDONLY);
  } catch {
    return false;
  }
  try {
    const none = hasNoWriter(fd);
    return none === undefined ? isLocked(fd, QEMU_WRITES) : !none;
  } catch {
    // There are no locks on this file system.
    return false;
  } finally {
    close(fd);
  }
}
