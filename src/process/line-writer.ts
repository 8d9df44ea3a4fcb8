/**
 * Writes lines to a descriptor that other processes share, such as standard error, without blocking.
 *
 * The reader may be slow or gone: a pipe fills up, a terminal is stopped (Ctrl-S). A blocking write
 * would keep the main thread from signals, clients and the end of the stream.
 */
import { fstatSync } from "node:fs";
import { O_NOCTTY, O_NONBLOCK, O_WRONLY, PIPE_BUF, POLLOUT } from "../../ffi/constants.ts";
import { WOULD_BLOCK } from "../../ffi/errno.ts";
import { open, write } from "../../ffi/fd.ts";
import { Memory } from "../../ffi/memory.ts";
import { pollOne } from "../../ffi/poll.ts";
import { send } from "../../ffi/socket.ts";
import { isTerminal } from "../../ffi/terminal.ts";

/** Bytes that {@link LineWriter.writeOrDrop} may leave waiting for the reader. */
const MAX_QUEUED = 64 * 1024;
/** Milliseconds between two tries to write what is queued. */
const RETRY = 50;
/** Milliseconds between two checks whether all is written. */
const POLL_INTERVAL = 10;

export { STDERR_FILENO as STDERR, STDOUT_FILENO as STDOUT } from "../../ffi/constants.ts";
export { isTerminal } from "../../ffi/terminal.ts";

/** Writes to one descriptor. Lines stay whole, and in order. */
export class LineWriter {
  readonly #fd: number;
  /** Opened by the first line. */
  #output: Output | undefined;
  /** Lines that wait for the reader, the oldest first. */
  #queue: Memory[] = [];
  #queuedBytes = 0;
  /** Bytes of the oldest line that are written already. */
  #written = 0;
  #dropped = 0;
  /** The last error; undefined if there was none. */
  #failure: unknown;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param owned `fd` is already non-blocking, and not shared */
  constructor(fd: number, owned = false) {
    this.#fd = fd;
    if (owned) this.#output = directOutput(fd);
  }

  /** True when nothing is queued. */
  get idle(): boolean {
    return this.#queue.length === 0;
  }

  /** Writes lines that must not be lost, now or when the reader takes more. */
  write(text: string): void {
    this.#reportDropped();
    this.#add(text);
    this.#flush();
  }

  /** Writes a line of which there may be many: drops and counts it when too much is queued. */
  writeOrDrop(text: string): void {
    if (this.#queuedBytes + Buffer.byteLength(text) > MAX_QUEUED) this.#dropped++;
    else this.write(text);
  }

  /**
   * Writes a text that is useful only now. In a pipe it takes only an empty page, so that the last
   * messages still fit: they may be read when this program is gone.
   *
   * @returns false when not even its beginning was written
   */
  tryWrite(text: string): boolean {
    this.#flush();
    if (!this.idle || !this.#isWritable(0)) return false;
    this.#add(text);
    this.#flush();
    if (this.idle || this.#written > 0) return true;
    this.#clear();
    return false;
  }

  /** Writes all that is queued, blocking the thread. @param limit milliseconds */
  drain(limit: number): void {
    const deadline = performance.now() + limit;
    for (this.#flush(); !this.idle; this.#flush()) {
      const left = deadline - performance.now();
      if (left <= 0) return;
      this.#isWritable(Math.min(left, RETRY));
      // Where poll(2) reports POLLOUT, a whole line may still not fit.
      Bun.sleepSync(1);
    }
  }

  /** Writes all of a text at once. @throws Error when not all of it could be written */
  deliverNow(text: string): void {
    this.#failure = undefined;
    this.write(text);
    this.#requireWritten();
  }

  /**
   * Writes all of a text, and waits for the reader.
   *
   * @param limit milliseconds
   * @throws Error when not all of it could be written
   */
  async deliver(text: string, limit: number): Promise<void> {
    this.#failure = undefined;
    this.write(text);
    await this.flushed(AbortSignal.timeout(Math.max(0, limit)));
    this.#requireWritten();
  }

  #requireWritten(): void {
    const failure = this.idle ? this.#failure : new Error("nobody reads it");
    this.#clear();
    if (failure !== undefined) throw failure;
  }

  /** Resolves when nothing is queued any more, or `stop` is aborted. */
  async flushed(stop: AbortSignal): Promise<void> {
    while (!this.idle && !stop.aborted) await Bun.sleep(POLL_INTERVAL);
  }

  #open(): Output {
    return (this.#output ??= openOutput(this.#fd));
  }

  /** @param timeout milliseconds */
  #isWritable(timeout: number): boolean {
    try {
      return isWritable(this.#open().fd, timeout);
    } catch {
      return false;
    }
  }

  #reportDropped(): void {
    const number = this.#dropped;
    if (number === 0) return;
    this.#dropped = 0;
    const what = number === 1 ? "message was" : "messages were";
    this.#add(`nbd-streaming: ${number} more ${what} lost: nobody was reading\n`);
  }

  #add(text: string): void {
    const added = Buffer.from(text);
    this.#queuedBytes += added.length;
    const last = this.#queue.at(-1);
    const untouched = this.#queue.length > 1 || this.#written === 0;
    // Joined, because a socket's buffer takes few short writes; PIPE_BUF is what a pipe takes whole.
    if (last !== undefined && untouched && last.length + added.length <= PIPE_BUF) {
      this.#queue[this.#queue.length - 1] = new Memory(Buffer.concat([last.bytes, added]));
    } else if (added.length > 0) {
      this.#queue.push(new Memory(added));
    }
  }

  #flush(): void {
    try {
      this.#writeQueue();
      if (this.idle) {
        this.#reportDropped();
        this.#writeQueue();
      }
    } catch (error) {
      // The reader is gone (EPIPE) or the disk full (ENOSPC), and this is where it would be reported.
      this.#failure = error;
      this.#clear();
    }
    if (this.idle || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, RETRY);
    this.#timer.unref();
  }

  #writeQueue(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const n = this.#open().write(first, this.#written);
      if (n === WOULD_BLOCK) return;
      this.#written += n;
      this.#queuedBytes -= n;
      if (this.#written < first.length) continue;
      this.#queue.shift();
      this.#written = 0;
    }
  }

  #clear(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#written = 0;
    this.#dropped = 0;
  }
}

const writers = new Map<number, LineWriter>();

/** The only writer to a descriptor, so that lines of several parts of the program are not mixed. */
export function lineWriter(fd: number): LineWriter {
  let writer = writers.get(fd);
  if (writer === undefined) writers.set(fd, (writer = new LineWriter(fd)));
  return writer;
}

/** Writes all that is queued, blocking the thread. @param limit milliseconds in all */
export function drainLineWriters(limit: number): void {
  const deadline = performance.now() + limit;
  for (const writer of writers.values()) writer.drain(deadline - performance.now());
}

/** Non-blocking writes to a descriptor. */
interface Output {
  /** The descriptor for poll(2). */
  readonly fd: number;
  /** Writes from byte `from` on. @returns bytes written, or WOULD_BLOCK @throws SyscallError */
  write(bytes: Memory, from: number): number;
}

function openOutput(fd: number): Output {
  const stats = fstatSync(fd);
  if (stats.isSocket()) {
    return { fd, write: (bytes, from) => send(fd, bytes.at(from), bytes.length - from) };
  }
  if (stats.isFile()) return directOutput(fd);
  if (stats.isFIFO() || (isTerminal(fd) && !isMultiplexer(stats.rdev))) {
    try {
      // A separate open file: O_NONBLOCK on `fd` itself would affect all processes that share it.
      return directOutput(open(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY));
    } catch {
      // Another user's, without a reader (ENXIO), or no /proc.
    }
  }
  return polledOutput(fd);
}

/** True for /dev/ptmx: opening it again would make another terminal (pts(4)). */
function isMultiplexer(rdev: number): boolean {
  return rdev === ((5 << 8) | 2);
}

function directOutput(fd: number): Output {
  return { fd, write: (bytes, from) => write(fd, bytes.at(from), bytes.length - from) };
}

/**
 * Writes only after poll(2) has reported POLLOUT, which for a pipe means a free page at least. Another
 * writer may fill it in between; then the write blocks.
 */
function polledOutput(fd: number): Output {
  return {
    fd,
    write(bytes, from) {
      if (!isWritable(fd, 0)) return WOULD_BLOCK;
      return write(fd, bytes.at(from), Math.min(bytes.length - from, PIPE_BUF));
    },
  };
}

/** True also when the reader is gone: write(2) then fails. @param timeout milliseconds */
function isWritable(fd: number, timeout: number): boolean {
  return pollOne(fd, POLLOUT, timeout) !== 0;
}
