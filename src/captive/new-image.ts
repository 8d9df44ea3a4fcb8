/** An image that has its name only when it is complete. */
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fsync,
  lstatSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { messageOf, UserError } from "../errors.ts";
import { FileId } from "../files/file-id.ts";
import { isBeingWritten, MOST_LINKS } from "../files/place.ts";
import { SIGNAL_GRACE } from "../server/stream-end.ts";
import { imagePath } from "./qemu-img.ts";

/**
 * A regular file that is made in a folder beside its place, under the same name, because some formats
 * note it inside. What has the name before is replaced in one step, or is as it was.
 */
export class NewImage {
  /** Where it is to be made. */
  readonly path: string;
  /** What the user calls it. */
  readonly #name: string;
  readonly #place: string;
  readonly #folder: FileId;
  /** A warning of what could not be removed. */
  left: string | undefined;
  /** What is to be replaced. */
  readonly #old: FileId | undefined;

  /**
   * @param name what the user has named
   * @returns undefined for what is not made anew: a device, and what is no path, such as `rbd:…`
   * @throws UserError ERR_FILE when it cannot be made, or what is there must stay
   */
  static at(name: string): NewImage | undefined {
    const path = imagePath(name);
    if (path === undefined) return undefined;
    const stats = explained(name, () => statSync(path, { throwIfNoEntry: false }));
    if (stats === undefined) {
      try {
        return new NewImage(name, path, stats);
      } catch {
        // Nothing can be made there, and qemu-img has better words for it.
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
    this.#place = destination(path);
    this.#old = stats === undefined ? undefined : new FileId(this.#place);
    this.#folder = new FileId(mkdtempSync(join(dirname(this.#place), ".nbd-streaming-")));
    this.path = join(this.#folder.path, basename(this.#place));
  }

  /** True when there is one already. */
  get isReplacement(): boolean {
    return this.#old !== undefined;
  }

  /**
   * It is complete. The old one goes only when the new one is on stable storage.
   *
   * @param stop aborted when there is no time to wait any more
   * @returns false when there has been no time for that, and nothing has changed
   * @throws UserError ERR_FILE when it cannot have its place, and remains where it is
   */
  async keep(stop: AbortSignal): Promise<boolean> {
    if (this.#old !== undefined && !(await this.#stored(stop))) {
      this.discard();
      return false;
    }
    try {
      this.#requireUnchanged();
      if (this.#old?.isThere) passOn(statSync(this.#place), this.path);
      renameSync(this.path, this.#place);
    } catch (error) {
      throw new UserError(
        "ERR_FILE",
        `cannot name the image ${this.#name}: ${messageOf(error)}; it is complete, and stays at ${this.path}`,
      );
    }
    this.discard();
    return true;
  }

  /** It is not complete: nobody is to take it for whole. */
  discard(): void {
    this.left = this.#folder.removeTree();
  }

  async #stored(stop: AbortSignal): Promise<boolean> {
    try {
      return await stored(this.path, stop);
    } catch (error) {
      this.discard();
      throw new UserError(
        "ERR_FILE",
        `cannot store the image ${this.#name}: ${messageOf(error)}; it is as it was before: check the disk`,
      );
    }
  }

  /** Hours may have passed since the name was looked at. @throws Error that says what has changed */
  #requireUnchanged(): void {
    if (lstatSync(this.#place, { throwIfNoEntry: false }) === undefined) return;
    if (this.#old?.isThere !== true) {
      throw new Error("somebody has put another file there meanwhile");
    }
    if (isBeingWritten(this.#place)) {
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
    // A file that may not be written is not to be replaced either, which its folder would allow.
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw unmakable(name, `${messageOf(error)}; make it writable, or name another file`);
  }
}

/** What the name leads to beyond all symbolic links, which are the user's, and stay. */
function destination(path: string): string {
  if (path.endsWith("/")) throw new Error("it can only be a folder");
  let at = resolve(path);
  for (let links = 0; links < MOST_LINKS; links++) {
    const folder = realpathSync(dirname(at));
    at = join(folder, basename(at));
    if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return at;
    at = resolve(folder, readlinkSync(at));
  }
  throw new Error("too many symbolic links");
}

/** Waits until a file is on stable storage. @returns false when there was no time for that */
async function stored(path: string, stop: AbortSignal): Promise<boolean> {
  const fd = openSync(path, "r");
  const done = new Promise<boolean>((give, fail) => {
    fsync(fd, (error) => {
      closeSync(fd);
      if (error === null) give(true);
      else fail(error);
    });
  });
  const { promise: late, resolve: give } = Promise.withResolvers<boolean>();
  const giveUp = () => void setTimeout(() => give(false), SIGNAL_GRACE);
  if (stop.aborted) giveUp();
  stop.addEventListener("abort", giveUp, { once: true });
  return await Promise.race([done, late]);
}

/** Gives a new file the owner, as far as we may, and the permissions of the one that it replaces. */
function passOn({ uid, gid, mode }: Stats, path: string): void {
  const is = statSync(path);
  try {
    if (is.uid !== uid || is.gid !== gid) chownSync(path, uid, gid);
  } catch {
    // Only root may give files away.
  }
  chmodSync(path, mode & 0o7777);
}

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
