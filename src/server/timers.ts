/** The timers of a stream: for the other end of its FIFO, and for a client that was lost. */
import type { Direction } from "../endpoint/spec.ts";
import type { Log } from "../log.ts";
import type { Failure, Words } from "../messages/notice.ts";
import { nobodyCame } from "../stream/failure.ts";
import type { StreamState } from "./stream-state.ts";

/** Milliseconds until the user is told that the other end is missing. */
const NOTICE = 1000;

export interface OpenTimerOptions {
  readonly direction: Direction;
  /** The FIFO, as the user names it. */
  readonly name: string;
  /** Milliseconds to wait; undefined is no limit. */
  readonly timeout: number | undefined;
  readonly log: Log;
  /** Waits until {@link OpenTimer.end} has been called where it is known by now that the FIFO is open. */
  readonly sync: () => Promise<void>;
  /** The FIFO was not opened in time. */
  readonly onTimeout: (failure: Failure) => void;
}

/** Waits until another process opens the other end of a FIFO (`--reader-timeout`, `--writer-timeout`). */
export class OpenTimer {
  /** That process, for messages. */
  readonly who: "reader" | "writer";
  readonly #timers: ReturnType<typeof setTimeout>[];
  #ended = false;

  constructor({ direction, name, timeout, log, sync, onTimeout }: OpenTimerOptions) {
    this.who = direction === "write" ? "reader" : "writer";
    const code = direction === "write" ? "AWAITING_READER" : "AWAITING_WRITER";
    const notice = () => log.info({ code, pipe: name });
    this.#timers = [setTimeout(notice, NOTICE)];
    if (timeout === undefined) return;
    const giveUp = async () => {
      // The whole program may have been stopped since somebody came (Ctrl-Z), or had no processor.
      await sync();
      if (!this.#ended) onTimeout(nobodyCame(direction, name, timeout / 1000));
    };
    this.#timers.push(setTimeout(() => void giveUp(), timeout));
  }

  /** Stops waiting: the other end is open, or not needed any more. */
  end(): void {
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

export interface ReconnectHandlers {
  warn(message: Words): void;
  /** The client has not come back: makes the stream thread give up, and waits for its events. */
  giveUp(): Promise<void>;
  /** Called when `awaited` and `dropped` have changed. */
  decided(): void;
}

/** Gives a client whose connection is lost some time to come back (`--reconnect`). Keeps `state.awaited` and `state.dropped`. */
export class ReconnectTimer {
  readonly #limit: number | undefined;
  readonly #state: StreamState;
  readonly #handlers: ReconnectHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limit milliseconds that a client has; undefined if clients may not come back */
  constructor(limit: number | undefined, state: StreamState, handlers: ReconnectHandlers) {
    this.#limit = limit;
    this.#state = state;
    this.#handlers = handlers;
  }

  /** A client that moved the stream has left without NBD_CMD_DISC, and no other has taken its place. */
  lost(): void {
    const limit = this.#limit;
    if (limit === undefined) {
      this.#state.dropped = true;
      return;
    }
    this.#handlers.warn({ code: "CLIENT_LOST", seconds: limit / 1000 });
    this.#state.awaited = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#expire(), limit);
  }

  /** The client has come back. */
  returned(): void {
    this.#state.awaited = false;
    clearTimeout(this.#timer);
  }

  /** Stops waiting, at the end of the stream. */
  end(): void {
    clearTimeout(this.#timer);
  }

  /** Gives up a client that has not come back. */
  async giveUp(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#state.awaited) await this.#expire();
  }

  async #expire(): Promise<void> {
    await this.#handlers.giveUp();
    if (!this.#state.awaited) return;
    this.#state.awaited = false;
    this.#state.dropped = true;
    this.#handlers.decided();
  }
}
