/** Waiting for whoever is to open the other end of a FIFO. */
import type { Direction } from "../endpoint/spec.ts";
import { type Failure, nobodyCame } from "../stream/failure.ts";
import type { Log } from "../log.ts";

/** Milliseconds without another end after which the user is told that there is none. */
const NOTICE = 1000;

export interface OpenTimerOptions {
  readonly direction: Direction;
  /** What the user called the FIFO. */
  readonly name: string;
  /** Seconds to wait; undefined is as long as it takes. */
  readonly timeout: number | undefined;
  readonly log: Log;
  /** Nobody has come in time. */
  readonly onTimeout: (failure: Failure) => void;
}

export class OpenTimer {
  /** Who it is, for messages. */
  readonly who: "reader" | "writer";
  readonly #timers: ReturnType<typeof setTimeout>[];

  constructor({ direction, name, timeout, log, onTimeout }: OpenTimerOptions) {
    this.who = direction === "write" ? "reader" : "writer";
    const code = direction === "write" ? "AWAITING_READER" : "AWAITING_WRITER";
    const notice = () => log.info({ code, pipe: name });
    this.#timers = [setTimeout(notice, NOTICE)];
    if (timeout === undefined) return;
    const giveUp = () => onTimeout(nobodyCame(direction, name, timeout));
    this.#timers.push(setTimeout(giveUp, timeout * 1000));
  }

  /** It is there, or is not waited for any more. */
  settled(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
