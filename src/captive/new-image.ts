/** An image that has its name only when it is complete. */
import { lstatSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { messageOf, UserError } from "../errors.ts";

/**
 * Where there is nothing yet, the image is made in a folder beside its place, with the same name:
 * some formats note it inside. What exists already is replaced as qemu-img does it, on the spot, as
 * it may be a device, or belong to somebody else; so is what is no file name, such as `rbd:…`.
 */
export class NewImage {
  /** Where it is to be made. */
  readonly path: string;
  readonly #place: string;
  readonly #folder: string | undefined;

  /** @param place what the user has named */
  constructor(place: string) {
    this.#place = place;
    this.#folder = makeFolder(place);
    this.path = this.#folder === undefined ? place : join(this.#folder, basename(place));
  }

  /** It is complete. @throws UserError ERR_FILE when it cannot have its place, and remains where it is */
  keep(): void {
    if (this.#folder === undefined) return;
    try {
      renameSync(this.path, this.#place);
    } catch (error) {
      throw new UserError(
        "ERR_FILE",
        `cannot name the image: ${messageOf(error)}; it is complete, and stays at ${this.path}`,
      );
    }
    this.discard();
  }

  /** It is not complete: nobody is to take it for whole. */
  discard(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}

function makeFolder(place: string): string | undefined {
  // As qemu tells a protocol from a path. One that ends in a slash can only be a folder.
  if (/^[^/]*:|\/$/.test(place)) return undefined;
  try {
    if (lstatSync(place, { throwIfNoEntry: false }) !== undefined) return undefined;
    return mkdtempSync(join(dirname(place), ".nbd-streaming-"));
  } catch {
    // qemu-img has better words for it.
    return undefined;
  }
}
