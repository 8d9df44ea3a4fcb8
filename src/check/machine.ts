/** Whether this machine can run the program. */
import { readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { O_NONBLOCK, O_RDONLY, O_WRONLY, POLLIN } from "../../ffi/constants.ts";
import { EpollSet } from "../../ffi/epoll.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import {
  bytesReadable,
  close,
  closesOnExec,
  dup,
  open,
  openFlags,
  read,
  seekBy,
  setNonBlocking,
  syncData,
  truncate,
  write,
  writev,
} from "../../ffi/fd.ts";
import { glibcVersion, libcName } from "../../ffi/libc.ts";
import { IoVec, Memory } from "../../ffi/memory.ts";
import { growPipe, mkfifo, pipe, pipeSize, splice, tee } from "../../ffi/pipe.ts";
import { PollSet, WakeUp } from "../../ffi/poll.ts";
import { endWithParent, yieldProcessor } from "../../ffi/process.ts";
import { bytesUnsent, recv, send, shutdownWrite, socketpair } from "../../ffi/socket.ts";
import { PrivateFolder } from "../captive/private-folder.ts";
import { messageOf } from "../errors.ts";
import { MAX_SOCKET_PATH } from "../net/address.ts";
import { procProblem } from "../process/proc.ts";
import { isBunRecent, WANTED_BUN } from "../runtime.ts";
import { type Item, ItemList } from "./report.ts";

/** A pipe smaller than this costs speed, in bytes. */
const SMALL_PIPE = 1 << 20;

/** Looks at all of it. */
export function checkMachine(): readonly Item[] {
  const found = new ItemList("machine");
  const bun = `${Bun.version} (${WANTED_BUN} is needed)`;
  if (isBunRecent(Bun.version)) found.add("ok", "Bun", bun);
  else found.add("failed", "Bun", `${bun}: bun upgrade`);
  const { platform, arch } = process;
  const kernel = `${platform} ${release()}, ${arch}`;
  const isKnown = platform === "linux" && (arch === "x64" || arch === "arm64");
  if (isKnown) found.add("ok", "kernel", kernel);
  else found.add("failed", "kernel", `${kernel}: it needs Linux, x64 or arm64`);
  const glibc = glibcVersion();
  const library = glibc === undefined ? `musl (found as ${libcName})` : `glibc ${glibc}`;
  found.add("ok", "C library", library);
  const problem = procProblem();
  if (problem === undefined) {
    found.add("ok", "/proc", "finding the processes of a command");
  } else {
    const remedy =
      "is proc(5) mounted there, and of this PID namespace (mount -t proc proc /proc)?";
    found.add("failed", "/proc", `${problem}: it is needed for exec: and run; ${remedy}`);
  }
  checkFolderAndCalls(found);
  checkLargestPipe(found);
  return found.items;
}

/** The folder for sockets, and the system calls, which are tried out in it. */
function checkFolderAndCalls(found: ItemList): void {
  let folder: PrivateFolder;
  try {
    folder = new PrivateFolder();
  } catch (error) {
    return found.add("failed", "temporary folder", messageOf(error));
  }
  try {
    const length = Buffer.byteLength(folder.socket);
    const text = `a socket's path in it has ${length} bytes of at most ${MAX_SOCKET_PATH}: ${folder.path}`;
    if (length <= MAX_SOCKET_PATH) found.add("ok", "temporary folder", text);
    else found.add("failed", "temporary folder", `${text}; set TMPDIR to a shorter one`);
    for (const probe of PROBES) {
      const [name, use] = probe;
      const problem = tryProbe(probe, folder.path);
      const hint = "is there a sandbox (seccomp, gVisor) that forbids it?";
      if (problem === undefined) found.add("ok", name, use);
      else found.add("failed", name, `${problem}: it is needed for ${use}; ${hint}`);
    }
  } finally {
    folder.remove();
  }
}

function checkLargestPipe(found: ItemList): void {
  const name = "largest pipe";
  try {
    const size = pipeCapacity();
    if (size >= SMALL_PIPE) return found.add("ok", name, `${size} bytes`);
    const limit = readFileSync("/proc/sys/fs/pipe-max-size", "latin1").trim();
    const see = `see fs.pipe-max-size (${limit}) and fs.pipe-user-pages-soft`;
    found.add("warning", name, `${size} bytes, which costs speed: ${see}`);
  } catch (error) {
    found.add("failed", name, messageOf(error));
  }
}

/** What growing a new pipe gets, in bytes. */
export function pipeCapacity(): number {
  const ends = pipe(O_NONBLOCK);
  try {
    return growPipe(ends.write);
  } finally {
    close(ends.read);
    close(ends.write);
  }
}

/** What a probe is given to work with; it is new for each. */
interface Bench {
  readonly folder: string;
  readonly ends: ReturnType<typeof pipe>;
  readonly otherEnds: ReturnType<typeof pipe>;
  readonly sockets: readonly [number, number];
  /** Takes a descriptor that is to be closed at the end. */
  own(fd: number): number;
}

/** What is tried, what the program uses it for, and whether it does that; it may throw, too. */
type Probe = readonly [name: string, use: string, run: (bench: Bench) => boolean];

const WORD = new Memory(Buffer.from("nbd-streaming"));
const AT = WORD.at(0);
const { length: LENGTH } = WORD;
const ROOM = new Memory(64).at(0);

/** Every system call that the program needs. */
export const PROBES: readonly Probe[] = [
  [
    "pipe2, F_SETPIPE_SZ",
    "large pipes",
    ({ ends }) => growPipe(ends.write) === pipeSize(ends.write),
  ],
  [
    "splice",
    "data without a copy, from a socket to a pipe",
    ({ sockets: [near, far], ends }) =>
      send(near, AT, LENGTH) === LENGTH &&
      splice(far, ends.write, LENGTH) === LENGTH &&
      splice(far, ends.write, LENGTH) === WOULD_BLOCK,
  ],
  [
    "tee",
    "zeroes without a copy; whether a pipe has a writer",
    ({ ends, otherEnds }) =>
      write(ends.write, AT, LENGTH) === LENGTH &&
      tee(ends.read, otherEnds.write, LENGTH) === LENGTH &&
      bytesReadable(ends.read) === LENGTH,
  ],
  [
    "read, write, writev",
    "small requests",
    ({ ends }) => {
      const vector = new IoVec(2);
      vector.push(AT, 4);
      vector.push(AT, 4);
      return writev(ends.write, vector) === 8 && read(ends.read, ROOM, 8) === 8;
    },
  ],
  [
    "socketpair, send, recv",
    "clients",
    ({ sockets: [near, far] }) => {
      const sent = send(near, AT, LENGTH) === LENGTH && bytesUnsent(near) > 0;
      shutdownWrite(near);
      return sent && recv(far, ROOM, 64) === LENGTH && recv(far, ROOM, 64) === 0;
    },
  ],
  [
    "poll",
    "the stream thread's loop",
    ({ ends }) => {
      const set = new PollSet();
      set.add(ends.read, POLLIN);
      const silent = set.wait(0) === 0;
      write(ends.write, AT, 1);
      return silent && set.wait(0) === 1 && set.revents(0) === POLLIN;
    },
  ],
  [
    "eventfd",
    "waking the stream thread",
    ({ own }) => {
      const wake = new WakeUp();
      const set = new PollSet();
      set.add(own(wake.fd), POLLIN);
      wake.signal();
      const seen = set.wait(0) === 1;
      wake.clear();
      return seen && set.wait(0) === 0;
    },
  ],
  [
    "epoll",
    "idle clients",
    ({ own, ends }) => {
      const set = new EpollSet();
      own(set.fd);
      set.add(ends.read);
      write(ends.write, AT, 1);
      const reported: number[] = [];
      set.take((one) => reported.push(one));
      set.remove(ends.read);
      return reported[0] === ends.read;
    },
  ],
  [
    "fcntl",
    "descriptors that others share",
    ({ own, ends }) => {
      const copy = own(dup(ends.read));
      setNonBlocking(copy, false);
      return closesOnExec(copy) && (openFlags(ends.read) & O_NONBLOCK) === 0;
    },
  ],
  [
    "mkfifo, open",
    "named pipes",
    ({ own, folder }) => {
      const path = join(folder, "probe.fifo");
      mkfifo(path, 0o600);
      own(open(path, O_RDONLY | O_NONBLOCK));
      own(open(path, O_WRONLY | O_NONBLOCK));
      return true;
    },
  ],
  [
    "lseek, ftruncate, fdatasync",
    "standard output that is a file",
    ({ own, folder }) => {
      const path = join(folder, "probe.file");
      writeFileSync(path, "");
      const file = own(open(path, O_WRONLY));
      truncate(file, seekBy(file, 65536));
      syncData(file);
      return true;
    },
  ],
  ["prctl", "--exit-with-parent", () => (endWithParent(), true)],
  [
    "sched_yield",
    "staying awake without taking the processor from others",
    () => (yieldProcessor(), true),
  ],
];

/** Runs one. @returns what is wrong; undefined when it does what it is needed for */
export function tryProbe([, , run]: Probe, folder: string): string | undefined {
  const owned: number[] = [];
  const own = (one: number) => {
    owned.push(one);
    return one;
  };
  const newPipe = () => {
    const ends = pipe(O_NONBLOCK);
    return { read: own(ends.read), write: own(ends.write) };
  };
  try {
    const [near, far] = socketpair();
    const sockets = [own(near), own(far)] as const;
    const works = run({ folder, ends: newPipe(), otherEnds: newPipe(), sockets, own });
    return works ? undefined : "it does not do what it should";
  } catch (error) {
    return messageOf(error);
  } finally {
    for (const one of owned) close(one);
  }
}
