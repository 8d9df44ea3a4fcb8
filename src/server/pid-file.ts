/** The file of `--pidfile`. */
import { readFileSync } from "node:fs";
import { deliverNow } from "../files/deliver.ts";
import { Draft } from "../files/draft.ts";
import type { FileId } from "../files/file-id.ts";
import { NoticeError } from "../messages/notice-error.ts";
import { type Place, placeOf, explainFailure } from "../files/place.ts";

/** Has the process id in it from the moment that clients can connect until the program ends. */
export class PidFile {
  readonly #text = `${process.pid}\n`;
  /** Undefined for a pipe or a device, which is written to and left alone. */
  readonly #file: FileId | undefined;

  /**
   * Replaces the file of another server, whether that runs or not: its number may be another program's by
   * now. The other server then leaves the new file alone.
   *
   * @throws UserError ERR_FILE when it cannot be written
   */
  constructor(readonly path: string) {
    this.#file = explained(path, () => {
      const place = pidPlace(path);
      if (place.kind === "name") return make(path, this.#text);
      deliverNow(place, path, this.#text);
      return undefined;
    });
  }

  /** Removes the file, if it is still the one that was made. */
  remove(): void {
    const file = this.#file;
    // The next file may have got the inode number of one that was removed.
    if (file?.isThere && holds(file.path, this.#text)) file.remove();
  }
}

/** Never throws, because it is called when the program ends. */
function holds(path: string, text: string): boolean {
  try {
    return readFileSync(path, "utf8") === text;
  } catch {
    return false;
  }
}

/** Checks that the pid file can be written, before anything begins. @throws UserError ERR_FILE */
export function requirePidFile(path: string): void {
  explained(path, () => pidPlace(path));
}

function pidPlace(path: string): Place {
  return placeOf(path, "a pid file", (text) => /^\s*[0-9]{1,20}\s*$/.test(text));
}

/** The file appears with the number in it, so that a process can wait for it. */
function make(path: string, text: string): FileId {
  const draft = new Draft(path);
  try {
    draft.write(text);
    return draft.publish();
  } catch (error) {
    draft.discard();
    throw error;
  }
}

function explained<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new NoticeError("ERR_FILE", { code: "PID_FILE", path, why: explainFailure(error) });
  }
}
