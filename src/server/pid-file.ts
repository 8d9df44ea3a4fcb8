/** The file of `--pidfile`. */
import { rmSync, writeFileSync } from "node:fs";
import { messageOf, UserError } from "../errors.ts";

/** Holds the process id from the moment that clients can connect until the program ends. */
export class PidFile {
  /** @throws UserError when it cannot be written */
  constructor(readonly path: string) {
    try {
      writeFileSync(path, `${process.pid}\n`);
    } catch (error) {
      throw new UserError("ERR_FILE", `cannot write --pidfile: ${messageOf(error)}`);
    }
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }
}
