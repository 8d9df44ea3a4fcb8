/**
 * Lines for whoever reads a descriptor that others share, such as standard error.
 *
 * Whether anybody reads is not ours to say: a pipe fills up, a terminal is stopped (Ctrl-S). A write
 * that waited for room would keep the main thread from signals, clients and the end of the stream.
 */
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { O_NOCTTY, O_NONBLOCK, O_WRONLY, PIPE_BUF, POLLOUT } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { open, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { PollSet } from "../../ffi/poll.ts";
import { send } from "../../ffi/socket.ts";

/** Bytes that may wait for room; what comes on top of them is lost, but for what must not be. */
const ROOM = 64 * 1024;
/** Milliseconds between two tries for room. */
const RETRY = 50;
/** Milliseconds between two looks whether all is out. */
const DELIVERY = 10;

/** Writes to one descriptor. Lines stay whole, and in order. */
/** Descriptors, as the command line writes to them. */
export { STDERR_FILENO as STDERR, STDOUT_FILENO as STDOUT } from "../../ffi/constants.ts";

export class LineWriter {
  readonly #fd: number;
  /** Undefined until the first line: most programs have little to say at their start. */
  #outlet: Outlet | undefined;
  /** What waits for room, the oldest first, of which a part may be out already. */
  #waiting: Memory[] = [];
  #waitingBytes = 0;
  /** Of the oldest, bytes that are out. */
  #out = 0;
  #lost = 0;
  /** What has kept lines from being written; undefined when nothing has. */
  #failure: unknown;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param owned it is non-blocking already, and shared with nobody */
  constructor(fd: number, owned = false) {
    this.#fd = fd;
    if (owned) this.#outlet = plain(fd);
  }

  /** True when nothing waits for room. */
  get idle(): boolean {
    return this.#waiting.length === 0;
  }

  /** Writes lines that must not be lost, now or when there is room. */
  write(text: string): void {
    this.#noteLoss();
    this.#add(text);
    this.#flush();
  }

  /** Writes a line of which there may be any number: with too much waiting, it is lost and counted. */
  tell(text: string): void {
    if (this.#waitingBytes + Buffer.byteLength(text) > ROOM) this.#lost++;
    else this.write(text);
  }

  /**
   * Writes a text that is of no use later. Of a pipe, it takes no room but in a page that is empty, so
   * that there is some left for the last words: somebody may read them when we are gone.
   *
   * @returns false when there was no room for its beginning, and nothing is written
   */
  offer(text: string): boolean {
    this.#flush();
    if (!this.idle || !this.#hasRoom(0)) return false;
    this.#add(text);
    this.#flush();
    if (this.idle || this.#out > 0) return true;
    this.#forget();
    return false;
  }

  /** Waits for room for all that waits, blocking the thread. @param limit milliseconds */
  drain(limit: number): void {
    const deadline = performance.now() + limit;
    for (this.#flush(); !this.idle; this.#flush()) {
      const left = deadline - performance.now();
      if (left <= 0) return;
      this.#hasRoom(Math.min(left, RETRY));
      // What is writable for poll(2) may have no room for a whole line yet.
      Bun.sleepSync(1);
    }
  }

  /** Writes what somebody has to get now. @throws Error when it could not be written, or not all of it */
  deliverNow(text: string): void {
    this.#failure = undefined;
    this.write(text);
    this.#requireOut();
  }

  /** As {@link deliverNow}, but waits for room. @param limit milliseconds */
  async deliver(text: string, limit: number): Promise<void> {
    const deadline = performance.now() + limit;
    this.#failure = undefined;
    this.write(text);
    while (!this.idle && performance.now() < deadline) await Bun.sleep(DELIVERY);
    this.#requireOut();
  }

  #requireOut(): void {
    const failure = this.idle ? this.#failure : new Error("nobody reads it");
    this.#forget();
    if (failure !== undefined) throw failure;
  }

  /** Resolves when nothing waits any more, or `stop` is aborted. */
  async flushed(stop: AbortSignal): Promise<void> {
    while (!this.idle && !stop.aborted) await Bun.sleep(DELIVERY);
  }

  #open(): Outlet {
    this.#outlet ??= outletOf(this.#fd);
    return this.#outlet;
  }

  /** As poll(2). @param timeout milliseconds */
  #hasRoom(timeout: number): boolean {
    try {
      return isWritable(this.#open().fd, timeout);
    } catch {
      return false;
    }
  }

  #noteLoss(): void {
    const number = this.#lost;
    if (number === 0) return;
    this.#lost = 0;
    const what = number === 1 ? "message was" : "messages were";
    this.#add(`nbd-streaming: ${number} more ${what} lost: nobody was reading\n`);
  }

  #add(text: string): void {
    const added = Buffer.from(text);
    this.#waitingBytes += added.length;
    const last = this.#waiting.at(-1);
    const untouched = this.#waiting.length > 1 || this.#out === 0;
    // A socket's buffer has room for few short writes; a pipe takes no more than this in one.
    if (last !== undefined && untouched && last.length + added.length <= PIPE_BUF) {
      this.#waiting[this.#waiting.length - 1] = new Memory(Buffer.concat([last.bytes, added]));
    } else if (added.length > 0) {
      this.#waiting.push(new Memory(added));
    }
  }

  #flush(): void {
    try {
      this.#push();
      if (this.idle) {
        this.#noteLoss();
        this.#push();
      }
    } catch (error) {
      // Nobody can read it (EPIPE), or there is no place for it (ENOSPC), nor one to complain.
      this.#failure = error;
      this.#forget();
    }
    if (this.idle || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, RETRY);
    this.#timer.unref();
  }

  #push(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const n = this.#open().put(first, this.#out);
      if (n === WOULD_BLOCK) return;
      this.#out += n;
      this.#waitingBytes -= n;
      if (this.#out < first.length) continue;
      this.#waiting.shift();
      this.#out = 0;
    }
  }

  #forget(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#out = 0;
    this.#lost = 0;
  }
}

const writers = new Map<number, LineWriter>();

/** The one writer to a descriptor, so that what several parts of the program say is not mixed. */
export function lineWriter(fd: number): LineWriter {
  let writer = writers.get(fd);
  if (writer === undefined) writers.set(fd, (writer = new LineWriter(fd)));
  return writer;
}

/** Gives all that waits a last chance. @param limit milliseconds for all of it */
export function drainLineWriters(limit: number): void {
  const deadline = performance.now() + limit;
  for (const writer of writers.values()) writer.drain(deadline - performance.now());
}

/** A way to a descriptor on which no call waits for a reader. */
interface Outlet {
  /** What to ask poll(2) about. */
  readonly fd: number;
  /** As write(2) of all from `from` on. @returns bytes taken, or WOULD_BLOCK @throws SyscallError */
  put(bytes: Memory, from: number): number;
}

function outletOf(fd: number): Outlet {
  const stats = fstatSync(fd);
  if (stats.isSocket()) {
    return { fd, put: (bytes, from) => send(fd, bytes.at(from), bytes.length - from) };
  }
  if (stats.isFile()) return plain(fd);
  if (stats.isFIFO() || (isatty(fd) && !isMultiplexer(stats.rdev))) {
    try {
      // A description of our own: O_NONBLOCK on the given one would be seen by all who share it.
      return plain(open(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY));
    } catch {
      // It is another user's, nobody has it open for reading (ENXIO), or there is no /proc.
    }
  }
  return guarded(fd);
}

/** True for /dev/ptmx: to open it again makes another terminal (pts(4)). */
function isMultiplexer(rdev: number): boolean {
  return rdev === ((5 << 8) | 2);
}

function plain(fd: number): Outlet {
  return { fd, put: (bytes, from) => write(fd, bytes.at(from), bytes.length - from) };
}

/**
 * Writes only where poll(2) sees room. Of a pipe, that is a page at least; somebody else may take it
 * in between, which cannot be helped here.
 */
function guarded(fd: number): Outlet {
  return {
    fd,
    put(bytes, from) {
      if (!isWritable(fd, 0)) return WOULD_BLOCK;
      return write(fd, bytes.at(from), Math.min(bytes.length - from, PIPE_BUF));
    },
  };
}

const poll = new PollSet();

/** True as well where nobody reads any more: a write(2) tells. @param timeout milliseconds */
function isWritable(fd: number, timeout: number): boolean {
  poll.clear();
  poll.add(fd, POLLOUT);
  return poll.wait(timeout) > 0;
}
