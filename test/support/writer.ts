/** Writers of a FIFO: real processes, as the program's users have them. */
import { type Running, start } from "./program.ts";

/** Writes a file into a FIFO, as soon as that is there and has a reader. */
export function feedFifo(path: string, file: string): Running {
  const line = 'until [ -p "$0" ]; do sleep 0.01; done; exec cat "$1" > "$0"';
  return start(["sh", "-c", line, path, file]);
}
