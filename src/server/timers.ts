/** How long a stream waits: for the other end of its FIFO, and for a client that was lost. */
import type { Direction } from "../endpoint/spec.ts";
import type { Log } from "../log.ts";
import type { Failure, Words } from "../messages/notice.ts";
import { nobodyCame } from "../stream/failure.ts";
import type { StreamState } from "./stream-state.ts";

/** Milliseconds without the other end until the user is told that it is missing. */
const NOTICE = 1000;

export interface OpenTimerOptions {
  readonly direction: Direction;
  /** What the user called the FIFO. */
  readonly name: string;
  /** Milliseconds to wait; undefined is as long as it takes. */
  readonly timeout: number | undefined;
  readonly log: Log;
  /** The FIFO was not opened in time. */
  readonly onTimeout: (failure: Failure) => void;
}

/** Waits until another process opens the other end of a FIFO (`--open-timeout`). */
export class OpenTimer {
  /** What that process is to the stream, for messages. */
  readonly who: "reader" | "writer";
  readonly #timers: ReturnType<typeof setTimeout>[];

  constructor({ direction, name, timeout, log, onTimeout }: OpenTimerOptions) {
    this.who = direction === "write" ? "reader" : "writer";
    const code = direction === "write" ? "AWAITING_READER" : "AWAITING_WRITER";
    const notice = () => log.info({ code, pipe: name });
    this.#timers = [setTimeout(notice, NOTICE)];
    if (timeout === undefined) return;
    const giveUp = () => onTimeout(nobodyCame(direction, name, timeout / 1000));
    this.#timers.push(setTimeout(giveUp, timeout));
  }

  /** Stops waiting: it is there, or not needed any more. */
  settled(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

export interface ReconnectHandlers {
  warn(message: Words): void;
  /** The client has not come back: has the stream thread give up, and waits for what it says. */
  giveUp(): Promise<void>;
  /** `awaited` and `dropped` have changed. */
  decided(): void;
}

/** Gives a client whose connection is lost some time to come back (`--reconnect`). Keeps `state.awaited` and `state.dropped`. */
export class ReconnectTimer {
  readonly #limit: number | undefined;
  readonly #state: StreamState;
  readonly #handlers: ReconnectHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limit milliseconds that a client has; undefined is none at all */
  constructor(limit: number | undefined, state: StreamState, handlers: ReconnectHandlers) {
    this.#limit = limit;
    this.#state = state;
    this.#handlers = handlers;
  }

  /** A client that moved the stream has left without a word, and nobody has taken its place. */
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

  /** It is back. */
  returned(): void {
    this.#state.awaited = false;
    clearTimeout(this.#timer);
  }

  /** Stops waiting, at the end of the stream. */
  end(): void {
    clearTimeout(this.#timer);
  }

  /** A client that is not back by now is lost for good. */
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
