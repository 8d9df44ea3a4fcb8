/** `--reconnect`: a client whose connection is lost has some time to come back. */
import type { Words } from "../messages/notice.ts";
import type { StreamState } from "./stream-state.ts";

/** Whom the patience is told to. */
export interface ReconnectHandlers {
  warn(message: Words): void;
  /** Nobody has come back: has the stream thread give up, and hears what it has to say. */
  giveUp(): Promise<void>;
  /** The state have changed. */
  decided(): void;
}

/** Keeps `state.awaited` and `state.dropped`. */
export class ReconnectTimer {
  readonly #seconds: number | undefined;
  readonly #state: StreamState;
  readonly #handlers: ReconnectHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param seconds that a client has; undefined is none at all */
  constructor(seconds: number | undefined, state: StreamState, handlers: ReconnectHandlers) {
    this.#seconds = seconds;
    this.#state = state;
    this.#handlers = handlers;
  }

  /** A client that moved the stream has left without a word, and nobody has taken its place. */
  lost(): void {
    const seconds = this.#seconds;
    if (seconds === undefined) {
      this.#state.dropped = true;
      return;
    }
    this.#handlers.warn({ code: "CLIENT_LOST", seconds });
    this.#state.awaited = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#expire(), seconds * 1000);
  }

  /** It is back. */
  returned(): void {
    this.#state.awaited = false;
    clearTimeout(this.#timer);
  }

  /** It does not matter any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  /** Whoever is not back by now does not come any more. */
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
