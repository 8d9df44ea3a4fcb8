/** Files by what they are: what had a name of ours may be gone, and the name somebody else's by now. */
import { type BigIntStats, lstatSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { resolve } from "node:path";
import { messageOf } from "../errors.ts";

const BIG = { bigint: true } as const;

/** A file that was made or found under a name, as long as it has that name. */
export class FileId {
  /** Whatever becomes of the working directory, where that can be. */
  readonly path: string;
  readonly #dev: bigint;
  readonly #ino: bigint;

  /**
   * Takes what has the name now; of a symbolic link, the link.
   *
   * @throws Error of the file system when there is nothing
   */
  constructor(path: string) {
    const full = resolve(path);
    // A folder above the working directory may not be ours to go through.
    this.path = lstatOrNothing(full) === undefined ? path : full;
    ({ dev: this.#dev, ino: this.#ino } = lstatSync(this.path, BIG));
  }

  /**
   * True while the name is that file's. A file system may give the number to the next file once it
   * is free: where that matters, the file is kept open, or looked into.
   */
  get isThere(): boolean {
    const now = lstatOrNothing(this.path);
    return now?.dev === this.#dev && now.ino === this.#ino;
  }

  /** unlink(2), or rmdir(2) for a folder, if the name is still that file's. */
  remove(): void {
    if (!this.isThere) return;
    try {
      if (lstatSync(this.path).isDirectory()) rmdirSync(this.path);
      else unlinkSync(this.path);
    } catch {
      // Somebody else has just removed it, or has put something into the folder, which is not ours.
    }
  }

  /**
   * Removes a folder of ours with all that is in it, if the name is still that folder's.
   *
   * @returns a warning when it could not: how a stream has ended matters more than this
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
