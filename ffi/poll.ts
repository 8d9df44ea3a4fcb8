/** poll(2), and eventfd(2), by which one thread wakes another. */
import { EFD_CLOEXEC, EFD_NONBLOCK } from "./constants.ts";
import { checked, interrupted } from "./errno.ts";
import { close, read, write } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const POLLFD_SIZE = 8;

/** An array of `struct pollfd`, which the caller refills before every wait. Grows as needed. */
export class PollSet {
  #memory = new Memory(16 * POLLFD_SIZE);
  #count = 0;

  clear(): void {
    this.#count = 0;
  }

  /**
   * Adds a descriptor. With `events` 0, poll(2) still reports POLLERR and POLLHUP.
   *
   * @returns its index for {@link revents}
   */
  add(fd: number, events: number): number {
    const at = this.#count * POLLFD_SIZE;
    if (at === this.#memory.length) {
      const larger = new Memory(this.#memory.length * 2);
      larger.bytes.set(this.#memory.bytes);
      this.#memory = larger;
    }
    this.#memory.view.setInt32(at, fd, true);
    this.#memory.view.setInt16(at + 4, events, true);
    this.#memory.view.setInt16(at + 6, 0, true);
    return this.#count++;
  }

  /**
   * Waits until a descriptor has events.
   *
   * @param timeout milliseconds; -1 for no limit, 0 to return at once
   * @returns the number of descriptors with events
   */
  wait(timeout: number): number {
    let n: number;
    do n = libc.poll(this.#memory.at(0), this.#count, timeout);
    while (n < 0 && interrupted("poll"));
    return n;
  }

  /** The `POLL*` bits of the descriptor at `index`. */
  revents(index: number): number {
    return this.#memory.view.getInt16(index * POLLFD_SIZE + 6, true);
  }
}

const single = new PollSet();

/**
 * poll(2) of one descriptor. With `events` 0, it still reports POLLERR and POLLHUP.
 *
 * @param timeout milliseconds; 0 to return at once
 * @returns its `POLL*` bits; 0 when there are none yet
 */
export function pollOne(fd: number, events: number, timeout = 0): number {
  single.clear();
  const at = single.add(fd, events);
  return single.wait(timeout) > 0 ? single.revents(at) : 0;
}

const one = new Memory(8);
one.view.setBigUint64(0, 1n, true);

/** A descriptor that another thread makes readable (eventfd(2)). */
export class WakeUp {
  readonly #scratch = new Memory(8);

  /** @param fd an eventfd; a new one by default */
  constructor(
    readonly fd = checked("eventfd", () => libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
  ) {}

  /** Makes the descriptor readable. */
  signal(): void {
    write(this.fd, one.at(0), 8);
  }

  /** Makes the descriptor unreadable. @returns how often it was signalled since the last call */
  clear(): number {
    return read(this.fd, this.#scratch.at(0), 8) < 0
      ? 0
      : Number(this.#scratch.view.getBigUint64(0, true));
  }

  close(): void {
    close(this.fd);
  }
}
