/** `check pipe=X` and `check read=X`: what X is, without touching it. */
import { accessSync, type BigIntStats, constants, fstatSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { POLLERR, POLLHUP, POLLIN } from "../../ffi/constants.ts";
import { bytesReadable, close } from "../../ffi/fd.ts";
import { pollOne } from "../../ffi/poll.ts";
import { addressesOf } from "../endpoint/opening/connect.ts";
import { inspectDescriptor } from "../endpoint/opening/descriptor.ts";
import { refuseOwnPipeEnd } from "../endpoint/opening/own-end.ts";
import { type Direction, UnusableError } from "../endpoint/spec.ts";
import { messageOf } from "../errors.ts";
import { deviceName, deviceUsers } from "../process/device-users.ts";
import { hasTcpListener, hasUnixListener, isOwnAddress } from "../process/listeners.ts";
import { type NamedProcess, pipeUsers } from "../process/pipe-users.ts";
import { procProblem, readOrNothing } from "../process/proc.ts";
import { advertisedSize } from "../protocol/export.ts";
import { toOffset } from "../protocol/offset.ts";
import type { StreamSettings } from "../server/settings.ts";
import { WINDOW_BLOCK } from "../stream/blocks.ts";
import { type Item, ItemList } from "./report.ts";
import { addFolder, inspectFolder } from "./spool.ts";

type StreamToCheck = Pick<StreamSettings, "spec" | "direction" | "size" | "window" | "spool">;

/**
 * Looks at what `pipe=` or `read=` names, and at what `size=`, `window=` and `spool=` mean for it. It opens, connects
 * to, makes and starts nothing: the process at the other end would take the check for its only stream.
 */
export async function checkEndpoint(stream: StreamToCheck): Promise<readonly Item[]> {
  const { spec, direction, size, window, spool } = stream;
  const found = new ItemList("endpoint");
  try {
    if (spec.kind === "path") checkPath(found, spec.path, stream);
    else if (spec.kind === "descriptor") checkDescriptor(found, spec.name, spec.fd, stream);
    else if (spec.kind === "tcp") await checkTcp(found, spec.host, spec.port);
    else checkCommand(found, spec.command);
  } catch (error) {
    found.add("failed", "kind", refusal(error));
  }
  if (size !== undefined) checkSize(found, size);
  // What is read is kept to the byte.
  if (window > 0 && direction === "write") checkWindow(found, window);
  if (spool !== undefined) addFolder(found, inspectFolder(spool), size);
  return found.items;
}

/** What a stream would be refused with, or what the system says of a path. @throws any other error */
function refusal(error: unknown): string {
  if (error instanceof UnusableError) return `${error.message}; ${error.hint}`;
  if (error instanceof Error && "code" in error) return error.message;
  throw error;
}

function checkPath(found: ItemList, path: string, stream: StreamToCheck): void {
  const { direction } = stream;
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (stats === undefined) {
    const text = "nothing yet: a named pipe is made (mode 0600), and removed at the end";
    found.add("ok", "kind", text);
    checkMode(found, "can be made", dirname(resolve(path)), constants.W_OK | constants.X_OK);
  } else if (stats.isDirectory()) {
    found.add("failed", "kind", "a folder: name a FIFO inside it");
  } else if (stats.isFile() && direction === "write") {
    const text = `a regular file, not a pipe: remove it, or write to standard output: pipe=- > ${path}`;
    found.add("failed", "kind", text);
  } else if (isTerminal(stats)) {
    found.add("failed", "kind", "a terminal: name a pipe, a socket or a file");
  } else {
    if (stats.isFIFO()) checkFifo(found, path, stats, direction);
    else if (stats.isSocket()) {
      found.add("ok", "kind", "a Unix socket, which is connected to");
      checkListener(found, hasUnixListener(path), "on it");
    } else checkFile(found, stats, stream);
    // A socket is connected to by who may write to it (unix(7)).
    const reads = direction === "read" && !stats.isSocket();
    checkMode(found, "can be opened", path, reads ? constants.R_OK : constants.W_OK);
  }
}

/** Looks at the mode only: opening might be noticed at the other end, rewind a tape or hang up a modem. */
function checkMode(found: ItemList, name: string, path: string, access: number): void {
  try {
    accessSync(path, access);
    found.add("ok", name, "by its mode");
  } catch (error) {
    const remedy = "see that it exists, and its mode and owner (ls -ld)";
    found.add("failed", name, `${messageOf(error)}: ${remedy}`);
  }
}

/** The other end of a pipe, and what those who have our end open could do. */
const OTHER = {
  write: { who: "reader", end: "reading", also: "write into it" },
  read: { who: "writer", end: "writing", also: "read from it" },
} as const;

function checkFifo(found: ItemList, path: string, stats: BigIntStats, direction: Direction): void {
  refuseOwnPipeEnd(stats, direction);
  found.add("ok", "kind", "a named pipe");
  const problem = procProblem();
  if (problem !== undefined) {
    return found.add("warning", "other end", `/proc does not tell who has it open: ${problem}`);
  }
  const { users, waiting, hidden } = pipeUsers(path);
  const { who, end: otherEnd, also } = OTHER[direction];
  const there = users.filter(({ end }) => end === otherEnd || end === "both");
  const here = users.filter(({ end }) => end !== otherEnd);
  if (there.length > 0) {
    const shared = "; if several of these use it, each has a part of the stream";
    const text = `a ${who} is there: ${listOf(there)}`;
    if (there.length === 1) found.add("ok", "other end", text);
    else found.add("note", "other end", text + shared);
  } else {
    const maybe =
      waiting.length === 0 ? "" : `, or is one of ${listOf(waiting)}, which wait for a named pipe`;
    const unread = hidden === 0 ? "" : `; ${hidden} processes of others could not be looked into`;
    found.add("note", "other end", `no ${who} is seen: it is waited for${maybe}${unread}`);
  }
  if (here.length === 0) return;
  found.add("warning", "this end", `${listOf(here)} could ${also}, too: end it first`);
}

function listOf(processes: readonly NamedProcess[]): string {
  return processes.map(({ pid, name }) => `${name} (${pid})`).join(", ");
}

/** @param listens undefined when that is not known */
function checkListener(found: ItemList, listens: boolean | undefined, where: string): void {
  if (listens === undefined) {
    const text = "not tried: whoever listens would take it for the stream";
    return found.add("note", "other end", text);
  }
  const none = `nobody listens ${where}: start the program that listens ${where} first`;
  found.check(listens, "other end", `somebody listens ${where}`, none);
}

/** Major numbers of terminals (proc(5), tty_drivers; Documentation/admin-guide/devices.txt). */
const TERMINALS = new Set([4, 5, ...Array.from({ length: 8 }, (_, i) => 136 + i)]);

function isTerminal(stats: BigIntStats): boolean {
  const [major] = deviceName(stats.rdev).split(":");
  return stats.isCharacterDevice() && TERMINALS.has(Number(major));
}

/** Checks a file to be read, or a device. */
function checkFile(found: ItemList, stats: BigIntStats, stream: StreamToCheck): void {
  const { direction, size } = stream;
  const device = stats.isBlockDevice() ? "a block device" : "a character device";
  const what = stats.isFile() ? "a regular file" : device;
  const length = stats.isFile() ? stats.size : deviceSize(stats);
  found.add("ok", "kind", length === undefined ? what : `${what} of ${length} bytes`);
  if (direction === "write") checkUse(found, stats);
  if (length === undefined || size === undefined) return;
  const text = `${length} bytes, and the stream has ${size}`;
  if (length < size) found.add("failed", "room", `${text}: name a larger one, or another size=`);
  else if (length > size && direction === "read") found.add("warning", "room", text);
}

/** Checks that a block device to be written is unused. */
function checkUse(found: ItemList, stats: BigIntStats): void {
  if (!stats.isBlockDevice()) return;
  const users = deviceUsers(stats);
  const unused = "it is not seen to be mounted, swapped to or a part of anything";
  found.check(users.length === 0, "use", unused, `it is in use: ${users.join(", ")}`);
}

/** A block device's size in bytes; sysfs has it in sectors of 512. */
function deviceSize(stats: BigIntStats): bigint | undefined {
  if (!stats.isBlockDevice()) return undefined;
  const sectors = readOrNothing(`/sys/dev/block/${deviceName(stats.rdev)}/size`);
  return sectors === undefined ? undefined : BigInt(sectors.trim()) * 512n;
}

/** Inspects a descriptor, which the other end does not notice, as it is open already. */
function checkDescriptor(found: ItemList, name: string, fd: number, stream: StreamToCheck): void {
  const { direction, size } = stream;
  const { handle, length } = inspectDescriptor(name, fd, direction, size);
  if (handle.kind === "fifo") return;
  try {
    const stats = fstatSync(handle.fd, { bigint: true });
    const what = handle.kind === "file" && !stats.isFile() ? "device" : handle.kind;
    const left = length === undefined ? "" : `, with ${length} bytes left`;
    found.add("ok", "kind", `${name}: a ${what}${left}`);
    if (direction === "write") checkUse(found, stats);
    if (handle.kind === "pipe") checkPipe(found, handle.fd, direction);
  } finally {
    close(handle.fd);
  }
}

function checkPipe(found: ItemList, fd: number, direction: Direction): void {
  const events = direction === "write" ? 0 : POLLIN;
  const gone = (pollOne(fd, events) & (POLLERR | POLLHUP)) !== 0;
  const left = direction === "read" ? bytesReadable(fd) : 0;
  const { who } = OTHER[direction];
  if (!gone) found.add("ok", "other end", `a ${who} is there`);
  else if (left === 0) found.add("failed", "other end", `its ${who} has gone: start it again`);
  else found.add("warning", "other end", `its writer has gone, and has left ${left} bytes`);
}

async function checkTcp(found: ItemList, host: string, port: number): Promise<void> {
  const addresses = await addressesOf(host);
  found.add("ok", "kind", `TCP: ${addresses.join(", ")} port ${port}, which is connected to`);
  const listeners = addresses.map((address) =>
    isOwnAddress(address) ? hasTcpListener(address, port) : undefined,
  );
  const listens = listeners.includes(undefined) ? undefined : listeners.includes(true);
  checkListener(found, listens, "there");
}

function checkCommand(found: ItemList, command: string): void {
  found.add("ok", "kind", "a command for /bin/sh, which is not started by this check");
  // Anything but a plain name may be a word of the shell's own.
  const [, name] = /^\s*([A-Za-z0-9_./+-]+)(?:\s|$)/.exec(command) ?? [];
  if (name !== undefined && Bun.which(name) === null) {
    const text = `${name} is not in PATH: install it, unless it is a word of the shell's own`;
    found.add("warning", "program", text);
  }
}

function checkSize(found: ItemList, size: bigint): void {
  const shown = advertisedSize(toOffset(size));
  const rounded = `; clients see ${shown}, whole sectors of 512`;
  found.add("ok", "size=", `exactly ${size} bytes${BigInt(shown) === size ? "" : rounded}`);
}

function checkWindow(found: ItemList, window: number): void {
  const room = Math.floor(window / WINDOW_BLOCK) * WINDOW_BLOCK;
  const pieces = `in pieces of ${WINDOW_BLOCK}`;
  if (room > 0) found.add("ok", "window=", `up to ${room} bytes of memory, ${pieces}, when needed`);
  else found.add("warning", "window=", `${window} bytes hold nothing: memory is taken ${pieces}`);
}
