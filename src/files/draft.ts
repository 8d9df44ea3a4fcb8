/** A file that is written under a temporary name in the same folder, and renamed when it is complete. */
import { closeSync, fdatasync, openSync, renameSync, writeFileSync } from "node:fs";
import { FileId } from "./file-id.ts";
import { temporaryName } from "./place.ts";

export class Draft {
  readonly #path: string;
  readonly #temporary: FileId;
  #fd: number;

  /** Creates the file, with the permissions that umask(2) leaves. @throws Error of the file system */
  constructor(path: string) {
    this.#path = path;
    const temporary = temporaryName(path);
    // O_EXCL: fails if the name exists, and follows no link.
    this.#fd = openSync(temporary, "wx");
    this.#temporary = new FileId(temporary);
  }

  write(text: string): void {
    writeFileSync(this.#fd, text);
  }

  /** Resolves when what was written is on stable storage. */
  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#fd, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  /** Renames the file, which atomically replaces a file of that name (rename(2)). */
  publish(): FileId {
    this.#close();
    renameSync(this.#temporary.path, this.#path);
    return new FileId(this.#path, this.#temporary);
  }

  /** Removes the temporary file. */
  discard(): void {
    this.#temporary.remove();
    try {
      this.#close();
    } catch {
      // The error that led here matters more.
    }
  }

  #close(): void {
    const fd = this.#fd;
    this.#fd = -1;
    // Some file systems report ENOSPC only now.
    if (fd >= 0) closeSync(fd);
  }
}
