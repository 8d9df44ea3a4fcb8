/** `check pipe=X` and `check read=X`: what X is, without touching it. */
import { lookup } from "node:dns/promises";
import {
  accessSync,
  type BigIntStats,
  constants,
  fstatSync,
  readFileSync,
  statSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { POLLERR, POLLHUP, POLLIN } from "../../ffi/constants.ts";
import { bytesReadable, close } from "../../ffi/fd.ts";
import { pipeSize } from "../../ffi/pipe.ts";
import { PollSet } from "../../ffi/poll.ts";
import { inspectDescriptor } from "../endpoint/opening/descriptor.ts";
import { refuseOwnPipeEnd } from "../endpoint/opening/own-end.ts";
import { type Direction, type EndpointSpec, UnusableError } from "../endpoint/spec.ts";
import { messageOf } from "../errors.ts";
import { deviceName, deviceUsers } from "../process/device-users.ts";
import { hasTcpListener, hasUnixListener, isOwnAddress } from "../process/listeners.ts";
import { type NamedProcess, pipeUsers } from "../process/pipe-users.ts";
import { advertisedSize } from "../protocol/export.ts";
import { toOffset } from "../protocol/offset.ts";
import { WINDOW_BLOCK } from "../stream/blocks.ts";
import { pipeCapacity } from "./machine.ts";
import { type Item, ItemList } from "./report.ts";

/** The parameters of a stream, as the user gave them. */
export interface StreamToCheck {
  readonly spec: EndpointSpec;
  readonly direction: Direction;
  /** Bytes; undefined when not given. */
  readonly size: bigint | undefined;
  /** Bytes; 0 when not given. */
  readonly window: number;
}

/**
 * Looks at what `pipe=` or `read=` names, and at what `size=` and `window=` mean for it. It opens, connects
 * to, makes and starts nothing: the process at the other end would take the check for its only stream.
 */
export async function checkEndpoint(stream: StreamToCheck): Promise<readonly Item[]> {
  const { spec, direction, size, window } = stream;
  const found = new ItemList("endpoint");
  switch (spec.kind) {
    case "path":
      checkPath(found, spec.path, stream);
      break;
    case "descriptor":
      checkDescriptor(found, spec.name, spec.fd, stream);
      break;
    case "tcp":
      await checkTcp(found, spec.host, spec.port, direction);
      break;
    case "exec":
      checkCommand(found, spec.command);
  }
  checkSize(found, direction, size);
  if (window > 0) checkWindow(found, direction, window);
  return found.items;
}

function checkPath(found: ItemList, path: string, stream: StreamToCheck): void {
  let stats: BigIntStats | undefined;
  try {
    stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    return found.add("failed", "kind", `it cannot be looked at: ${messageOf(error)}`);
  }
  if (stats === undefined) checkMissing(found, path);
  else if (stats.isFIFO()) checkFifo(found, path, stats, stream.direction);
  else if (stats.isSocket()) checkSocket(found, path);
  else if (stats.isDirectory()) found.add("failed", "kind", "a folder: name a FIFO inside it");
  else checkFile(found, path, stats, stream);
}

function checkMissing(found: ItemList, path: string): void {
  const folder = dirname(resolve(path));
  const nothing = "nothing yet: a named pipe";
  try {
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is no folder`);
    accessSync(folder, constants.W_OK | constants.X_OK);
    found.add("ok", "kind", `${nothing} is made (mode 0600), and removed at the end`);
    addPipeSize(found);
  } catch (error) {
    found.add("note", "kind", `${nothing} would be made`);
    found.add("failed", "can be made", `${messageOf(error)}: check the folder and its permissions`);
  }
}

/** Checks the mode only: opening might be noticed at the other end, rewind a tape or hang up a modem. */
function checkMode(found: ItemList, path: string, direction: Direction, remark = ""): boolean {
  try {
    accessSync(path, direction === "write" ? constants.W_OK : constants.R_OK);
  } catch (error) {
    const text = `${messageOf(error)}: check its mode and owner (chmod, chown)`;
    found.add("failed", "can be opened", text);
    return false;
  }
  const way = direction === "write" ? "writing" : "reading";
  found.add("ok", "can be opened", `for ${way}, by its mode${remark}`);
  return true;
}

function checkFifo(found: ItemList, path: string, stats: BigIntStats, direction: Direction): void {
  found.add("ok", "kind", "a named pipe");
  const remark = "; it was not opened: its other end would see that";
  if (!checkMode(found, path, direction, remark)) return;
  try {
    refuseOwnPipeEnd(stats, direction);
  } catch (error) {
    return found.add("failed", "other end", refusal(error));
  }
  checkFifoUsers(found, path, direction);
  addPipeSize(found);
}

/** @throws any other error */
function refusal(error: unknown): string {
  if (!(error instanceof UnusableError)) throw error;
  return `${error.message}; ${error.hint}`;
}

function checkFifoUsers(found: ItemList, path: string, direction: Direction): void {
  let all: ReturnType<typeof pipeUsers>;
  try {
    all = pipeUsers(path);
  } catch (error) {
    const text = `/proc does not tell who has it open: ${messageOf(error)}`;
    return found.add("warning", "other end", text);
  }
  const words =
    direction === "write"
      ? { who: "reader", other: "reading", share: "read, each gets", mixed: "write into it" }
      : { who: "writer", other: "writing", share: "write, each gives", mixed: "read from it" };
  const { users, waiting, hidden } = all;
  const there = users.filter(({ end }) => end === words.other || end === "both");
  const others = users.filter(({ end }) => end !== words.other);
  if (there.length > 0) {
    const shared = `; if several of these ${words.share} a part of the stream`;
    const text = `a ${words.who} is there: ${listOf(there)}`;
    if (there.length === 1) found.add("ok", "other end", text);
    else found.add("note", "other end", text + shared);
  } else {
    const maybe =
      waiting.length === 0 ? "" : `, or is one of ${listOf(waiting)}, which wait for a named pipe`;
    const unread = hidden === 0 ? "" : `; ${hidden} processes of others could not be looked into`;
    found.add("note", "other end", `no ${words.who} is seen: it is waited for${maybe}${unread}`);
  }
  if (others.length === 0) return;
  found.add("warning", "this end", `${listOf(others)} could ${words.mixed}, too: end it first`);
}

function listOf(processes: readonly NamedProcess[]): string {
  return processes.map(({ pid, name }) => `${name} (${pid})`).join(", ");
}

function addPipeSize(found: ItemList): void {
  found.add("ok", "pipe size", `${pipeCapacity()} bytes, which is what a new pipe gets here`);
}

function checkSocket(found: ItemList, path: string): void {
  found.add("ok", "kind", "a Unix socket, which is connected to");
  try {
    accessSync(path, constants.W_OK);
  } catch (error) {
    return found.add("failed", "can be opened", messageOf(error));
  }
  const listens = hasUnixListener(path);
  const name = "other end";
  if (listens === undefined) {
    found.add("warning", name, "/proc/net/unix does not tell whether anybody listens");
  } else {
    const none = "nobody listens on it here: start the program that listens on it first";
    found.check(listens, name, "somebody listens on it", none);
  }
}

/** Major numbers of terminals (proc(5), tty_drivers; Documentation/admin-guide/devices.txt). */
const TERMINALS = new Set([4, 5, ...Array.from({ length: 8 }, (_, i) => 136 + i)]);

function checkFile(
  found: ItemList,
  path: string,
  stats: BigIntStats,
  { direction, size }: StreamToCheck,
): void {
  const device = deviceName(stats.rdev);
  const length = stats.isFile() ? stats.size : deviceSize(device);
  if (stats.isFile() && direction === "write") {
    const text = `a regular file, not a pipe: remove it, or write to standard output: pipe=- > ${path}`;
    return found.add("failed", "kind", text);
  }
  if (stats.isFile()) {
    const isLength = size === undefined || size === length;
    const use = isLength ? "which is the size= of the stream" : `and the stream has ${size}`;
    const text = `a regular file of ${length} bytes, ${use}`;
    if (length !== undefined && size !== undefined && length < size) {
      found.add("failed", "kind", `${text}: it ends early`);
    } else found.add(isLength ? "ok" : "warning", "kind", text);
  } else if (stats.isBlockDevice()) {
    found.add("ok", "kind", `a block device${length === undefined ? "" : ` of ${length} bytes`}`);
    if (direction === "write") checkUse(found, stats);
    if (direction === "write" && length !== undefined && size !== undefined && length < size) {
      const text = `${length} bytes, and the stream has ${size}: name a larger device`;
      found.add("failed", "room", text);
    }
  } else if (TERMINALS.has(Number(device.split(":")[0]))) {
    return found.add("failed", "kind", "a terminal: name a pipe, a socket or a file");
  } else {
    found.add("ok", "kind", "a character device");
  }
  checkMode(found, path, direction);
}

/** Checks that a block device to be written is unused. */
function checkUse(found: ItemList, stats: BigIntStats): void {
  const users = deviceUsers(stats);
  const unused = "it is not seen to be mounted, swapped to or a part of anything";
  found.check(users.length === 0, "use", unused, `it is in use: ${users.join(", ")}`);
}

/** A block device's size in bytes; sysfs has it in sectors of 512. */
function deviceSize(device: string): bigint | undefined {
  try {
    return BigInt(readFileSync(`/sys/dev/block/${device}/size`, "latin1").trim()) * 512n;
  } catch {
    return undefined;
  }
}

/** Inspects a descriptor, which the other end does not notice, as it is open already. */
function checkDescriptor(
  found: ItemList,
  name: string,
  number: number,
  { direction, size }: StreamToCheck,
): void {
  let endpoint: ReturnType<typeof inspectDescriptor>;
  try {
    endpoint = inspectDescriptor(name, number, direction, size);
  } catch (error) {
    return found.add("failed", "kind", `${name}: ${refusal(error)}`);
  }
  const { handle, length } = endpoint;
  if (handle.kind === "fifo") return;
  try {
    const stats = fstatSync(handle.fd, { bigint: true });
    const special = stats.isFIFO() ? "a pipe" : stats.isSocket() ? "a socket" : "a device";
    const left = length === undefined ? "" : `, with ${length} bytes left`;
    found.add("ok", "kind", `${name}: ${stats.isFile() ? "a file" : special}${left}`);
    if (stats.isBlockDevice() && direction === "write") checkUse(found, stats);
    if (handle.kind === "pipe") checkPipe(found, handle.fd, direction);
  } finally {
    close(handle.fd);
  }
}

function checkPipe(found: ItemList, fd: number, direction: Direction): void {
  const poll = new PollSet();
  poll.add(fd, direction === "write" ? 0 : POLLIN);
  poll.wait(0);
  const gone = (poll.revents(0) & (POLLERR | POLLHUP)) !== 0;
  const left = direction === "read" ? bytesReadable(fd) : 0;
  const who = direction === "write" ? "reader" : "writer";
  if (!gone) found.add("ok", "other end", `a ${who} is there`);
  else if (left === 0) found.add("failed", "other end", `its ${who} has gone: start it again`);
  else found.add("warning", "other end", `its writer has gone, and has left ${left} bytes`);
  const size = `${pipeSize(fd)} bytes now; it is grown as far as the kernel grants`;
  found.add("ok", "pipe size", size);
}

async function checkTcp(
  found: ItemList,
  host: string,
  port: number,
  direction: Direction,
): Promise<void> {
  found.add("ok", "kind", `TCP: ${host} port ${port} is connected to`);
  let addresses: string[];
  try {
    addresses = (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    return found.add("failed", "address", `the host ${host} is not known: check its name`);
  }
  found.add("ok", "address", addresses.join(", "));
  const listeners = addresses.map((address) =>
    isOwnAddress(address) ? hasTcpListener(address, port) : undefined,
  );
  if (listeners.includes(undefined)) {
    const taken = direction === "write" ? "takes it for the stream" : "gives the stream to it";
    found.add("note", "other end", `not tried: whoever listens there ${taken}`);
  } else {
    const none = "nobody listens there: start the program that listens there first";
    found.check(listeners.includes(true), "other end", "somebody listens there", none);
  }
}

function checkCommand(found: ItemList, command: string): void {
  found.add("ok", "kind", "a command for /bin/sh, which is not started by this check");
  // Anything but a plain name may be a word of the shell's own.
  const [, name] = /^\s*([A-Za-z0-9_./+-]+)(?:\s|$)/.exec(command) ?? [];
  if (name !== undefined && Bun.which(name) === null) {
    const text = `${name} is not in PATH: install it, unless it is a word of the shell's own`;
    found.add("warning", "program", text);
  }
  addPipeSize(found);
}

function checkSize(found: ItemList, direction: Direction, size: bigint | undefined): void {
  if (size === undefined) {
    const means =
      direction === "write"
        ? "the stream ends where the clients stop, and they see no end"
        : "a file tells by itself, a pipe or socket does not, and most clients ask for it";
    return found.add("note", "size=", `not given: ${means}`);
  }
  const shown = advertisedSize(toOffset(size));
  const rounded = `; clients see ${shown}, whole sectors of 512`;
  found.add("ok", "size=", `exactly ${size} bytes${BigInt(shown) === size ? "" : rounded}`);
}

function checkWindow(found: ItemList, direction: Direction, window: number): void {
  const room = Math.floor(window / WINDOW_BLOCK) * WINDOW_BLOCK;
  const pieces = `in pieces of ${WINDOW_BLOCK}`;
  if (direction === "read") {
    found.add("ok", "window=", `the last ${window} bytes are kept in memory`);
  } else if (room === 0) {
    found.add("warning", "window=", `${window} bytes hold nothing: memory is taken ${pieces}`);
  } else {
    found.add("ok", "window=", `up to ${room} bytes of memory, ${pieces}, when needed`);
  }
}
