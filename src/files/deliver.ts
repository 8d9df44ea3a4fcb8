/** Writes a report or a process id to a pipe, a device or a descriptor that the user named as its file. */
import { fstatSync } from "node:fs";
import { ERRNO, O_NOCTTY, O_NONBLOCK, O_WRONLY } from "../../ffi/constants.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { close, open } from "../../ffi/fd.ts";
import { messageOf } from "../errors.ts";
import { LineWriter, lineWriter } from "../process/line-writer.ts";
import { type Place, PlaceError } from "./place.ts";

/** Milliseconds between two tries to open a FIFO without a reader. */
const RETRY = 20;

type WritablePlace = Exclude<Place, { kind: "name" }>;

/**
 * Writes a text, and waits for the reader.
 *
 * @param limit milliseconds for a reader to open a FIFO, and to read the text
 * @throws Error when not all of it could be written
 */
export async function deliver(
  place: WritablePlace,
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

/** Writes a text without waiting. @throws Error when not all of it could be written */
export function deliverNow(place: WritablePlace, path: string, text: string): void {
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

function writerOf(place: WritablePlace, fd = -1): LineWriter {
  return place.kind === "descriptor" ? lineWriter(place.fd) : new LineWriter(fd, true);
}

function undelivered(error: unknown): PlaceError {
  const why = hasNoReader(error) ? "nobody reads it" : messageOf(error);
  return new PlaceError(why, "start its reader first, or name a file");
}

/** True for the error of open(2) for a FIFO without a reader (fifo(7)). */
function hasNoReader(error: unknown): boolean {
  return error instanceof SyscallError && error.errno === ERRNO.ENXIO;
}

async function openInTime(path: string, deadline: number): Promise<number> {
  for (;;) {
    try {
      return openDevice(path);
    } catch (error) {
      if (!hasNoReader(error) || performance.now() >= deadline) throw error;
      await Bun.sleep(RETRY);
    }
  }
}

/** Opens without O_CREAT and O_TRUNC, as the path may lead to a file by now. */
function openDevice(path: string): number {
  const fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  const stats = fstatSync(fd);
  if (stats.isFIFO() || stats.isCharacterDevice()) return fd;
  close(fd);
  throw new Error("it is not what it was: somebody has put something else in its place");
}
