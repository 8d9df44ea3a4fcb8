/** An image that gets its name only when it is complete. */
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fsync,
  linkSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve as absolute } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { FileId } from "../files/file-id.ts";
import { isBeingWritten, MOST_LINKS } from "../files/place.ts";
import { SIGNAL_GRACE } from "../server/stream-end.ts";
import { imagePath } from "./qemu-img.ts";

const REPLACED = "somebody has put another file there meanwhile";

/**
 * A regular file that is made in a folder beside its destination, under the same name, because some
 * formats store the name. An old file of that name is replaced in one step, or stays as it was.
 */
export class NewImage {
  /** The path while it is made. */
  readonly path: string;
  /** The user's name for it. */
  readonly #name: string;
  readonly #destination: string;
  readonly #folder: FileId;
  /** A warning if the folder could not be removed. */
  left: string | undefined;
  readonly #old: FileId | undefined;

  /**
   * @param name the user's name for it
   * @returns undefined for a device, and for a name that is no path, such as `rbd:…`
   * @throws UserError ERR_FILE when it cannot be made, or the old file must stay
   */
  static at(name: string): NewImage | undefined {
    const path = imagePath(name);
    if (path === undefined) return undefined;
    const stats = explained(name, () => statSync(path, { throwIfNoEntry: false }));
    if (stats === undefined) {
      try {
        return new NewImage(name, path, stats);
      } catch {
        // qemu-img explains better why nothing can be made there.
        return undefined;
      }
    }
    if (stats.isBlockDevice() || stats.isCharacterDevice() || stats.isDirectory()) return undefined;
    requireReplaceable(name, path, stats);
    if (isBeingWritten(path)) {
      throw unmakable(
        name,
        "another program writes to the one that is there; end it first, or name another file",
      );
    }
    return explained(name, () => new NewImage(name, path, stats));
  }

  private constructor(name: string, path: string, stats: Stats | undefined) {
    this.#name = name;
    this.#destination = destination(path);
    this.#old = stats === undefined ? undefined : new FileId(this.#destination);
    this.#folder = new FileId(mkdtempSync(join(dirname(this.#destination), ".nbd-streaming-")));
    this.path = join(this.#folder.path, basename(this.#destination));
  }

  get isReplacement(): boolean {
    return this.#old !== undefined;
  }

  /**
   * Gives the complete image its name, after it is on stable storage if it replaces an old one.
   *
   * @param stop aborted when there is no time to wait any more
   * @returns false when there was no time for that; the old one then stays
   * @throws UserError ERR_FILE when it cannot be named, and stays at {@link path}
   */
  async keep(stop: AbortSignal): Promise<boolean> {
    if (this.#old !== undefined && !(await this.#sync(stop))) {
      this.discard();
      return false;
    }
    try {
      this.#requireUnchanged();
      if (this.#old?.isThere) {
        copyOwner(statSync(this.#destination), this.path);
        renameSync(this.path, this.#destination);
      } else {
        this.#nameNew();
      }
    } catch (error) {
      throw new UserError(
        "ERR_FILE",
        `cannot name the image ${this.#name}: ${messageOf(error)}; it is complete, and stays at ${this.path}`,
      );
    }
    this.discard();
    return true;
  }

  /** Removes an incomplete image. */
  discard(): void {
    this.left = this.#folder.removeTree();
  }

  async #sync(stop: AbortSignal): Promise<boolean> {
    try {
      return await sync(this.path, stop);
    } catch (error) {
      this.discard();
      throw new UserError(
        "ERR_FILE",
        `cannot store the image ${this.#name}: ${messageOf(error)}; it is as it was before: check the disk`,
      );
    }
  }

  /** Unlike rename(2), link(2) never replaces what somebody has put there just now. */
  #nameNew(): void {
    try {
      linkSync(this.path, this.#destination);
    } catch (error) {
      const { code = "" } = error as { code?: string };
      if (code === "EEXIST") throw new Error(REPLACED, { cause: error });
      // Not every file system has hard links (link(2), EPERM).
      if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code)) throw error;
      renameSync(this.path, this.#destination);
    }
  }

  /** Hours may have passed since {@link NewImage.at}. @throws Error that says what has changed */
  #requireUnchanged(): void {
    if (lstatSync(this.#destination, { throwIfNoEntry: false }) === undefined) return;
    if (this.#old?.isThere !== true) {
      throw new Error(REPLACED);
    }
    if (isBeingWritten(this.#destination)) {
      throw new Error("another program has begun to write to the one that is there");
    }
  }
}

function requireReplaceable(name: string, path: string, stats: Stats): void {
  if (!stats.isFile()) {
    const kind = stats.isFIFO() ? "a pipe" : "a socket";
    throw unmakable(name, `it is ${kind}; qemu-img needs a file, in which it can seek`);
  }
  try {
    // The folder's mode would allow to replace a file that the user must not write.
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw unmakable(name, `${messageOf(error)}; make it writable, or name another file`);
  }
}

/** Follows all symbolic links, which stay. */
function destination(path: string): string {
  if (path.endsWith("/")) throw new Error("it can only be a folder");
  let at = absolute(path);
  for (let links = 0; links < MOST_LINKS; links++) {
    const folder = realpathSync(dirname(at));
    at = join(folder, basename(at));
    if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return at;
    at = absolute(folder, readlinkSync(at));
  }
  throw new Error("too many symbolic links");
}

/** Waits for fsync(2). @returns false when there was no time for that */
function sync(path: string, stop: AbortSignal): Promise<boolean> {
  const fd = openSync(path, "r");
  return new Promise((resolve, reject) => {
    fsync(fd, (error) => {
      closeSync(fd);
      if (error === null) resolve(true);
      else reject(error);
    });
    const giveUp = () => void setTimeout(() => resolve(false), SIGNAL_GRACE);
    if (stop.aborted) giveUp();
    stop.addEventListener("abort", giveUp, { once: true });
  });
}

/** Gives a file the owner, if permitted, and the mode of another. */
function copyOwner({ uid, gid, mode }: Stats, path: string): void {
  const is = statSync(path);
  try {
    if (is.uid !== uid || is.gid !== gid) chownSync(path, uid, gid);
  } catch {
    // Only root may give files away.
  }
  chmodSync(path, mode & 0o7777);
}

/** @throws UserError in place of an error of the file system */
function explained<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw unmakable(
      name,
      `${messageOf(error)}; check the folder, in which it is made before it is renamed`,
    );
  }
}

function unmakable(name: string, why: string): UserError {
  return new UserError("ERR_FILE", `cannot make the image ${name}: ${why}`);
}
