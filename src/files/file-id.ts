/** Identifies files by device and inode: another file may have got a name since this program used it. */
import { type BigIntStats, lstatSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { resolve } from "node:path";
import { messageOf } from "../errors.ts";

const BIG = { bigint: true } as const;

/** A file under a name, as long as it has that name. */
export class FileId {
  /** Absolute, so that it does not depend on the working directory, where the absolute path is accessible. */
  readonly path: string;
  readonly #identity: { readonly dev: bigint; readonly ino: bigint };

  /**
   * Takes the file that has the name now; of a symbolic link, the link itself.
   *
   * @param renamed the file that has just got the name: by now another one may have it, or none
   * @throws Error of the file system when there is none
   */
  constructor(path: string, renamed?: FileId) {
    const full = resolve(path);
    // A folder above the working directory may not be searchable.
    this.path = lstatOrNothing(full) === undefined ? path : full;
    this.#identity = renamed === undefined ? lstatSync(this.path, BIG) : renamed.#identity;
  }

  /**
   * True while the name leads to this file. A file system may reuse the inode number of a deleted file:
   * where that matters, the caller keeps the file open, or checks its contents.
   */
  get isThere(): boolean {
    const now = lstatOrNothing(this.path);
    return now?.dev === this.#identity.dev && now.ino === this.#identity.ino;
  }

  /** unlink(2), or rmdir(2) for a folder, if the name still leads to this file. */
  remove(): void {
    if (!this.isThere) return;
    try {
      if (lstatSync(this.path).isDirectory()) rmdirSync(this.path);
      else unlinkSync(this.path);
    } catch {
      // Another process has just removed it, or put a file into the folder, which must stay.
    }
  }

  /**
   * Removes the folder with its contents, if the name still leads to it.
   *
   * @returns a warning when it fails, since the result of a stream matters more than an error
   */
  removeTree(): string | undefined {
    try {
      if (this.isThere) rmSync(this.path, { recursive: true, force: true });
      return undefined;
    } catch (error) {
      return `cannot remove the folder ${this.path}: ${messageOf(error)}; remove it yourself`;
    }
  }
}

function lstatOrNothing(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, BIG);
  } catch {
    return undefined;
  }
}
