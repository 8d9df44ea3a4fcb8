/** Writing to a descriptor that others share. */
import { writeSync } from "node:fs";

/** Tries for what is not taken at once, a millisecond apart. */
const TRIES = 100;

/**
 * Writes all of a text, and waits a little for room: a captive command may have made a descriptor that
 * it shares with us non-blocking.
 *
 * @param tries calls of write(2) after which it is given up; Infinity for what must not be lost
 * @returns false when it is given up, or nobody reads it, or it is not open
 */
export function writeAll(fd: number, text: string, tries = TRIES): boolean {
  let rest = Buffer.from(text);
  for (let attempt = 0; attempt < tries; attempt++) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
      if (rest.length === 0) return true;
    } catch (error) {
      if ((error as { code?: string }).code !== "EAGAIN") return false;
      Bun.sleepSync(1);
    }
  }
  return false;
}
