/** `--reconnect`: a client whose connection is lost has some time to come back. */
import type { Facts } from "./facts.ts";

/** Whom the patience is told to. */
export interface PatienceHandlers {
  warn(message: string): void;
  /** Nobody has come back: has the stream thread give up, and hears what it has to say. */
  giveUp(): Promise<void>;
  /** The facts have changed. */
  decided(): void;
}

/** Keeps `facts.awaited` and `facts.dropped`. */
export class Patience {
  readonly #seconds: number | undefined;
  readonly #facts: Facts;
  readonly #handlers: PatienceHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param seconds that a client has; undefined is none at all */
  constructor(seconds: number | undefined, facts: Facts, handlers: PatienceHandlers) {
    this.#seconds = seconds;
    this.#facts = facts;
    this.#handlers = handlers;
  }

  /** A client that moved the stream has left without a word, and nobody has taken its place. */
  lost(): void {
    const seconds = this.#seconds;
    if (seconds === undefined) {
      this.#facts.dropped = true;
      return;
    }
    this.#handlers.warn(`a client was lost; it has ${seconds} s to come back`);
    this.#facts.awaited = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#expire(), seconds * 1000);
  }

  /** It is back. */
  returned(): void {
    this.#facts.awaited = false;
    clearTimeout(this.#timer);
  }

  /** It does not matter any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  /** Whoever is not back by now does not come any more. */
  async giveUp(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#facts.awaited) await this.#expire();
  }

  async #expire(): Promise<void> {
    await this.#handlers.giveUp();
    if (!this.#facts.awaited) return;
    this.#facts.awaited = false;
    this.#facts.dropped = true;
    this.#handlers.decided();
  }
}
