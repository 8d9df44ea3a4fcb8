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

/** Bytes; a smaller pipe costs speed. */
const SMALL_PIPE = 1 << 20;

export function checkMachine(): readonly Item[] {
  const found = new ItemList("machine");
  const bun = `${Bun.version} (${WANTED_BUN} is needed)`;
  found.check(isBunRecent(Bun.version), "Bun", bun, `${bun}: bun upgrade`);
  const { platform, arch } = process;
  const kernel = `${platform} ${release()}, ${arch}`;
  const isKnown = platform === "linux" && (arch === "x64" || arch === "arm64");
  found.check(isKnown, "kernel", kernel, `${kernel}: it needs Linux, x64 or arm64`);
  const glibc = glibcVersion();
  const library = glibc === undefined ? `musl (found as ${libcName})` : `glibc ${glibc}`;
  found.add("ok", "C library", library);
  const problem = procProblem();
  const remedy = "is proc(5) mounted there, and of this PID namespace (mount -t proc proc /proc)?";
  const need = `${problem}: it is needed for exec: and run; ${remedy}`;
  found.check(problem === undefined, "/proc", "finding the processes of a command", need);
  checkFolderAndCalls(found);
  checkLargestPipe(found);
  return found.items;
}

/** Checks the folder for sockets, and tries out the system calls in it. */
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
    const tooLong = `${text}; set TMPDIR to a shorter one`;
    found.check(length <= MAX_SOCKET_PATH, "temporary folder", text, tooLong);
    const hint = "is there a sandbox (seccomp, gVisor) that forbids it?";
    for (const entry of PROBES) {
      const [name, use] = entry;
      const problem = tryProbe(entry, folder.path);
      const need = `${problem}: it is needed for ${use}; ${hint}`;
      found.check(problem === undefined, name, use, need);
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

/** The size to which a new pipe can be grown, in bytes. */
export function pipeCapacity(): number {
  const ends = pipe(O_NONBLOCK);
  try {
    return growPipe(ends.write);
  } finally {
    close(ends.read);
    close(ends.write);
  }
}

/** What a probe works with: fresh descriptors, which are closed after it. */
interface Bench {
  readonly folder: string;
  readonly ends: ReturnType<typeof pipe>;
  readonly otherEnds: ReturnType<typeof pipe>;
  readonly sockets: readonly [number, number];
  /** Has a further descriptor closed after the probe. */
  own(fd: number): number;
}

/** The calls, what the program uses them for, and a trial: it throws or returns false when they fail. */
type Probe = readonly [name: string, use: string, run: (bench: Bench) => boolean | void];

function probe(...parts: Probe): Probe {
  return parts;
}

const WORD = new Memory(Buffer.from("nbd-streaming"));
const AT = WORD.at(0);
const { length: LENGTH } = WORD;
const ROOM = new Memory(64).at(0);

/** Every system call that the program needs. */
export const PROBES: readonly Probe[] = [
  probe("pipe2, F_SETPIPE_SZ", "large pipes", ({ ends }) => {
    return growPipe(ends.write) === pipeSize(ends.write);
  }),
  probe("splice", "data without a copy, from a socket to a pipe", ({ sockets, ends }) => {
    send(sockets[0], AT, LENGTH);
    return (
      splice(sockets[1], ends.write, LENGTH) === LENGTH &&
      splice(sockets[1], ends.write, LENGTH) === WOULD_BLOCK
    );
  }),
  probe("tee", "zeroes without a copy; whether a pipe has a writer", ({ ends, otherEnds }) => {
    write(ends.write, AT, LENGTH);
    tee(ends.read, otherEnds.write, LENGTH);
    return bytesReadable(ends.read) === LENGTH && bytesReadable(otherEnds.read) === LENGTH;
  }),
  probe("read, write, writev", "small requests", ({ ends }) => {
    const vector = new IoVec(1);
    vector.push(AT, LENGTH);
    return writev(ends.write, vector) === read(ends.read, ROOM, LENGTH);
  }),
  probe("socketpair, send, recv", "clients", ({ sockets: [near, far] }) => {
    send(near, AT, LENGTH);
    const queued = bytesUnsent(near) > 0;
    shutdownWrite(near);
    return queued && recv(far, ROOM, 64) === LENGTH && recv(far, ROOM, 64) === 0;
  }),
  probe("poll", "the stream thread's loop", ({ ends }) => {
    const set = new PollSet();
    set.add(ends.read, POLLIN);
    const silent = set.wait(0) === 0;
    write(ends.write, AT, 1);
    return silent && set.wait(0) === 1;
  }),
  probe("eventfd", "waking the stream thread", ({ own }) => {
    const wake = new WakeUp();
    const set = new PollSet();
    set.add(own(wake.fd), POLLIN);
    wake.signal();
    const seen = set.wait(0) === 1;
    wake.clear();
    return seen && set.wait(0) === 0;
  }),
  probe("epoll", "idle clients", ({ own, ends }) => {
    const set = new EpollSet();
    own(set.fd);
    set.add(ends.read);
    write(ends.write, AT, 1);
    let reported = -1;
    set.take((fd) => void (reported = fd));
    set.remove(ends.read);
    return reported === ends.read;
  }),
  probe("fcntl", "descriptors that others share", ({ own, ends }) => {
    const copy = own(dup(ends.read));
    setNonBlocking(copy, false);
    return closesOnExec(copy) && (openFlags(ends.read) & O_NONBLOCK) === 0;
  }),
  probe("mkfifo, open", "named pipes", ({ own, folder }) => {
    const path = join(folder, "probe.fifo");
    mkfifo(path, 0o600);
    own(open(path, O_RDONLY | O_NONBLOCK));
    own(open(path, O_WRONLY | O_NONBLOCK));
  }),
  probe("lseek, ftruncate, fdatasync", "standard output that is a file", ({ own, folder }) => {
    const path = join(folder, "probe.file");
    writeFileSync(path, "");
    const file = own(open(path, O_WRONLY));
    truncate(file, seekBy(file, 65536));
    syncData(file);
  }),
  probe("prctl", "--exit-with-parent", endWithParent),
  probe("sched_yield", "staying awake without taking the processor from others", yieldProcessor),
];

/** Tries the calls out. @returns what is wrong; undefined when nothing is */
export function tryProbe([, , run]: Probe, folder: string): string | undefined {
  const owned: number[] = [];
  const own = (fd: number) => {
    owned.push(fd);
    return fd;
  };
  const newPipe = () => {
    const ends = pipe(O_NONBLOCK);
    return { read: own(ends.read), write: own(ends.write) };
  };
  try {
    const [near, far] = socketpair();
    const sockets = [own(near), own(far)] as const;
    const works = run({ folder, ends: newPipe(), otherEnds: newPipe(), sockets, own });
    return works === false ? "it does not do what it should" : undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    for (const fd of owned) close(fd);
  }
}
