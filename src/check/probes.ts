/** Every system call that the program needs, tried out for what it is needed for. */
import { O_NONBLOCK, O_RDONLY, O_WRONLY, POLLIN } from "../../ffi/constants.ts";
import { SyscallError, WOULD_BLOCK } from "../../ffi/errno.ts";
import { EpollSet } from "../../ffi/epoll.ts";
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
import { IoVec, Memory } from "../../ffi/memory.ts";
import { growPipe, mkfifo, pipe, pipeSize, splice, tee } from "../../ffi/pipe.ts";
import { PollSet, WakeUp } from "../../ffi/poll.ts";
import { endWithParent, yieldProcessor } from "../../ffi/process.ts";
import { bytesUnsent, recv, send, shutdownWrite, socketpair } from "../../ffi/socket.ts";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** What a probe is given to work with. */
interface Bench {
  readonly folder: string;
  /** A descriptor that is closed at the end. */
  own(fd: number): number;
}

interface Probe {
  readonly name: string;
  /** What the program uses it for. */
  readonly use: string;
  /** @throws when it does not do what it is needed for */
  readonly run: (bench: Bench) => void;
}

const bytes = new Memory(Buffer.from("nbd-streaming"));
const LENGTH = bytes.length;

function expect(what: string, held: boolean): void {
  if (!held) throw new Error(`${what}, but it was not so`);
}

function pipeOf(bench: Bench): { read: number; write: number } {
  const ends = pipe(O_NONBLOCK);
  bench.own(ends.read);
  bench.own(ends.write);
  return ends;
}

function pairOf(bench: Bench): [number, number] {
  const [near, far] = socketpair();
  return [bench.own(near), bench.own(far)];
}

export const PROBES: readonly Probe[] = [
  {
    name: "pipe2, F_SETPIPE_SZ",
    use: "large pipes",
    run(bench) {
      const { write: end } = pipeOf(bench);
      expect("F_GETPIPE_SZ tells what F_SETPIPE_SZ has set", growPipe(end) === pipeSize(end));
    },
  },
  {
    name: "splice",
    use: "data without a copy, from a socket to a pipe",
    run(bench) {
      const [near, far] = pairOf(bench);
      const ends = pipeOf(bench);
      send(near, bytes.at(0), LENGTH);
      expect("a socket's data moves", splice(far, ends.write, LENGTH) === LENGTH);
      expect("an empty socket would block", splice(far, ends.write, LENGTH) === WOULD_BLOCK);
    },
  },
  {
    name: "tee",
    use: "zeroes without a copy; whether a pipe has a writer",
    run(bench) {
      const [from, to] = [pipeOf(bench), pipeOf(bench)];
      write(from.write, bytes.at(0), LENGTH);
      expect("a pipe's data is copied", tee(from.read, to.write, LENGTH) === LENGTH);
      expect("and stays", bytesReadable(from.read) === LENGTH);
    },
  },
  {
    name: "read, write, writev",
    use: "small requests",
    run(bench) {
      const ends = pipeOf(bench);
      const vector = new IoVec(2);
      vector.push(bytes.at(0), 4);
      vector.push(bytes.at(5), 4);
      expect("both parts are written", writev(ends.write, vector) === 8);
      expect("what was written is read", read(ends.read, new Memory(8).at(0), 8) === 8);
    },
  },
  {
    name: "socketpair, send, recv",
    use: "clients",
    run(bench) {
      const [near, far] = pairOf(bench);
      expect("all is sent", send(near, bytes.at(0), LENGTH) === LENGTH);
      expect("SIOCOUTQ tells what is under way", bytesUnsent(near) > 0);
      expect("all is received", recv(far, new Memory(64).at(0), 64) === LENGTH);
      shutdownWrite(near);
      expect("a shutdown is end of file", recv(far, new Memory(64).at(0), 64) === 0);
    },
  },
  {
    name: "poll",
    use: "the stream thread's loop",
    run(bench) {
      const ends = pipeOf(bench);
      const set = new PollSet();
      set.add(ends.read, POLLIN);
      expect("an empty pipe is silent", set.wait(0) === 0);
      write(ends.write, bytes.at(0), 1);
      expect("a full one is reported", set.wait(0) === 1 && (set.revents(0) & POLLIN) !== 0);
    },
  },
  {
    name: "eventfd",
    use: "waking the stream thread",
    run(bench) {
      const wake = new WakeUp();
      const set = new PollSet();
      set.add(bench.own(wake.fd), POLLIN);
      wake.signal();
      expect("a signal is seen", set.wait(0) === 1);
      wake.clear();
      expect("and taken", set.wait(0) === 0);
    },
  },
  {
    name: "epoll",
    use: "idle clients",
    run(bench) {
      const ends = pipeOf(bench);
      const set = new EpollSet();
      bench.own(set.fd);
      set.add(ends.read);
      write(ends.write, bytes.at(0), 1);
      let reported = -1;
      set.take((fd) => {
        reported = fd;
      });
      expect("the descriptor is reported", reported === ends.read);
      set.remove(ends.read);
    },
  },
  {
    name: "fcntl",
    use: "descriptors that others share",
    run(bench) {
      const { read: end } = pipeOf(bench);
      const copy = bench.own(dup(end));
      expect("a duplicate is close-on-exec", closesOnExec(copy));
      setNonBlocking(copy, false);
      expect("flags are shared", (openFlags(end) & O_NONBLOCK) === 0);
    },
  },
  {
    name: "mkfifo, open",
    use: "named pipes",
    run(bench) {
      const path = join(bench.folder, "probe.fifo");
      mkfifo(path, 0o600);
      let alone = false;
      try {
        bench.own(open(path, O_WRONLY | O_NONBLOCK));
      } catch (error) {
        alone = error instanceof SyscallError && error.code === "ENXIO";
      }
      expect("a pipe without a reader is ENXIO", alone);
      bench.own(open(path, O_RDONLY | O_NONBLOCK));
      bench.own(open(path, O_WRONLY | O_NONBLOCK));
    },
  },
  {
    name: "lseek, ftruncate, fdatasync",
    use: "standard output that is a file",
    run(bench) {
      const path = join(bench.folder, "probe.file");
      writeFileSync(path, "");
      const fd = bench.own(open(path, O_WRONLY));
      truncate(fd, seekBy(fd, 65536));
      syncData(fd);
    },
  },
  {
    name: "prctl",
    use: "--exit-with-parent",
    run: endWithParent,
  },
  {
    name: "sched_yield",
    use: "staying awake without taking the processor from others",
    run: yieldProcessor,
  },
];

/** Runs one. @returns what is wrong; undefined when it does what it is needed for */
export function tryProbe(probe: Probe, folder: string): string | undefined {
  const owned: number[] = [];
  const own = (fd: number) => {
    owned.push(fd);
    return fd;
  };
  try {
    probe.run({ folder, own });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    for (const fd of owned) close(fd);
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
