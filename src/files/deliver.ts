/** Texts of ours for a pipe or a device that the user has named in the place of a file. */
import { fstatSync } from "node:fs";
import { ERRNO, O_NOCTTY, O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open } from "../../ffi/fd.ts";
import { LineWriter, lineWriter } from "../process/line-writer.ts";
import type { Place } from "./place.ts";

/** Milliseconds between two looks for somebody who reads a FIFO. */
const LOOKING = 20;

type Elsewhere = Exclude<Place, { kind: "name" }>;

/**
 * Writes a text to what is no file of ours.
 *
 * @param limit milliseconds for a reader to come, and to take it
 * @throws Error when it could not be written, or not all of it
 */
export async function deliver(
  place: Elsewhere,
  path: string,
  text: string,
  limit: number,
): Promise<void> {
  if (place.kind === "descriptor") {
    await lineWriter(place.fd).deliver(text, limit);
    return;
  }
  const deadline = performance.now() + limit;
  const fd = await openInTime(path, deadline);
  try {
    await new LineWriter(fd, true).deliver(text, deadline - performance.now());
  } finally {
    close(fd);
  }
}

/** As {@link deliver}, for a reader who is there. */
export function deliverNow(place: Elsewhere, path: string, text: string): void {
  if (place.kind === "descriptor") {
    lineWriter(place.fd).deliverNow(text);
    return;
  }
  const fd = openDevice(path);
  try {
    new LineWriter(fd, true).deliverNow(text);
  } finally {
    close(fd);
  }
}

async function openInTime(path: string, deadline: number): Promise<number> {
  for (;;) {
    try {
      return openDevice(path);
    } catch (error) {
      // Nobody has it open for reading (fifo(7)).
      const early = error instanceof SyscallError && error.errno === ERRNO.ENXIO;
      if (!early || performance.now() >= deadline)
        throw early ? new Error("nobody reads it") : error;
      await Bun.sleep(LOOKING);
    }
  }
}

/** Without O_CREAT and O_TRUNC: somebody may have put a file in its place. */
function openDevice(path: string): number {
  const fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  const stats = fstatSync(fd);
  if (stats.isFIFO() || stats.isCharacterDevice()) return fd;
  close(fd);
  throw new Error("it is not what it was: somebody has put something else in its place");
}
