/** Watches many descriptors that are mostly idle: epoll(7). */
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_EVENT_SIZE,
  EPOLLIN,
  EPOLLRDHUP,
} from "./constants.ts";
import { checked } from "./errno.ts";
import { close } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

/** The most descriptors reported by one call. */
const BATCH = 64;

/** The position of the user data in `struct epoll_event`, which is packed on x86-64 only. */
const DATA_AT = EPOLL_EVENT_SIZE - 8;

/** A set of descriptors whose cost does not depend on the number of idle ones. */
export class EpollSet {
  /** For poll(2): readable when {@link take} has something to report. */
  readonly fd = checked("epoll_create1", () => libc.epoll_create1(EPOLL_CLOEXEC));
  readonly #event = new Memory(EPOLL_EVENT_SIZE);
  readonly #events = new Memory(BATCH * EPOLL_EVENT_SIZE);

  /** Watches for input, and for a peer that closes its side. */
  add(fd: number): void {
    this.#event.view.setUint32(0, EPOLLIN | EPOLLRDHUP, true);
    this.#event.view.setUint32(DATA_AT, fd, true);
    checked("epoll_ctl", () => libc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, this.#event.at(0)));
  }

  remove(fd: number): void {
    checked("epoll_ctl", () => libc.epoll_ctl(this.fd, EPOLL_CTL_DEL, fd, this.#event.at(0)));
  }

  /** Reports up to 64 descriptors without waiting. @param report gets `EPOLL*` bits, the same as `POLL*` */
  take(report: (fd: number, events: number) => void): void {
    const { view } = this.#events;
    const n = checked("epoll_wait", () => {
      return libc.epoll_wait(this.fd, this.#events.at(0), BATCH, 0);
    });
    for (let i = 0; i < n; i++) {
      const at = i * EPOLL_EVENT_SIZE;
      report(view.getUint32(at + DATA_AT, true), view.getUint32(at, true));
    }
  }

  close(): void {
    close(this.fd);
  }
}
