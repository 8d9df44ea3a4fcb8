/** Texts of ours for a pipe or a device that the user has named in the place of a file. */
import { fstatSync } from "node:fs";
import { ERRNO, O_NOCTTY, O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open } from "../../ffi/fd.ts";
import { messageOf } from "../errors.ts";
import { LineWriter, lineWriter } from "../process/line-writer.ts";
import { type Place, PlaceError } from "./place.ts";

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
  const deadline = performance.now() + limit;
  let fd: number | undefined;
  try {
    if (place.kind === "device") fd = await openInTime(path, deadline);
    await writerOf(place, fd).deliver(text, deadline - performance.now());
  } catch (error) {
    throw undelivered(error);
  } finally {
    if (fd !== undefined) close(fd);
  }
}

/** As {@link deliver}, for a reader who is there. */
export function deliverNow(place: Elsewhere, path: string, text: string): void {
  let fd: number | undefined;
  try {
    if (place.kind === "device") fd = openDevice(path);
    writerOf(place, fd).deliverNow(text);
  } catch (error) {
    throw undelivered(error);
  } finally {
    if (fd !== undefined) close(fd);
  }
}

function writerOf(place: Elsewhere, fd = -1): LineWriter {
  return place.kind === "descriptor" ? lineWriter(place.fd) : new LineWriter(fd, true);
}

function undelivered(error: unknown): PlaceError {
  const early = error instanceof SyscallError && error.errno === ERRNO.ENXIO;
  const why = early ? "nobody reads it" : messageOf(error);
  return new PlaceError(why, "start its reader first, or name a file");
}

async function openInTime(path: string, deadline: number): Promise<number> {
  for (;;) {
    try {
      return openDevice(path);
    } catch (error) {
      // Nobody has it open for reading (fifo(7)).
      const early = error instanceof SyscallError && error.errno === ERRNO.ENXIO;
      if (!early || performance.now() >= deadline) throw error;
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
