/** A file that has its name only when it is complete: until then another one, beside it. */
import { closeSync, fdatasync, openSync, renameSync, writeFileSync } from "node:fs";
import { FileId } from "./file-id.ts";
import { temporaryName } from "./place.ts";

export class Draft {
  readonly #path: string;
  readonly #temporary: FileId;
  #fd: number;

  /** Makes it, with the permissions that umask(2) leaves. @throws Error of the file system */
  constructor(path: string) {
    this.#path = path;
    const temporary = temporaryName(path);
    // Made by this call, or not at all (O_EXCL), which follows no link.
    this.#fd = openSync(temporary, "wx");
    this.#temporary = new FileId(temporary);
  }

  write(text: string): void {
    writeFileSync(this.#fd, text);
  }

  /** Waits, without blocking, until what was written is on stable storage. */
  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#fd, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  /** Gives it its name, in place of what has that, and in one step (rename(2)). */
  publish(): FileId {
    this.#close();
    renameSync(this.#temporary.path, this.#path);
    return new FileId(this.#path);
  }

  /** It did not come about. */
  discard(): void {
    this.#temporary.remove();
    try {
      this.#close();
    } catch {
      // There is a reason for this already.
    }
  }

  #close(): void {
    const fd = this.#fd;
    this.#fd = -1;
    // Some file systems tell only now that there was no room.
    if (fd >= 0) closeSync(fd);
  }
}
