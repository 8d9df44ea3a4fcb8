/** The file of `--pidfile`. */
import { constants, rmSync, writeFileSync } from "node:fs";
import { messageOf, UserError } from "../errors.ts";

/** Holds the process id from the moment that clients can connect until the program ends. */
export class PidFile {
  /** @throws UserError when it cannot be written */
  constructor(readonly path: string) {
    try {
      // Not to wait for ever where somebody has put a FIFO.
      const flag =
        constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NONBLOCK;
      writeFileSync(path, `${process.pid}\n`, { flag: flag as never });
    } catch (error) {
      throw new UserError(
        "ERR_FILE",
        `cannot write --pidfile: ${messageOf(error)}; check its folder`,
      );
    }
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }
}
