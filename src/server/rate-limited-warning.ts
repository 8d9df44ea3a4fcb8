/** Limits warnings that clients can cause any number of times, so that they fill no log and no terminal. */
import type { Words } from "../messages/notice.ts";

/** Warnings of one kind that are printed before the others are only counted. */
const TOLD = 5;
/** Milliseconds from the first that is counted to the line with their number. */
const FIRST_INTERVAL = 1000;
/** In a flood that does not end, the interval doubles up to this. */
const LONGEST_INTERVAL = 60_000;

/** setTimeout and clearTimeout, or a test's clock. */
export interface Timers {
  set(action: () => void, milliseconds: number): unknown;
  clear(timer: unknown): void;
}

const REAL: Timers = {
  set: (action, milliseconds) => setTimeout(action, milliseconds),
  clear: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
};

/** Warnings of one kind: prints the first few, then how many more there were. */
export class RateLimitedWarning {
  readonly #warn: (message: Words) => void;
  readonly #summary: (count: number) => string;
  readonly #timers: Timers;
  #told = 0;
  #counted = 0;
  #interval = FIRST_INTERVAL;
  #timer: unknown;

  /** @param summary the line for so many that were not printed one by one */
  constructor(
    warn: (message: Words) => void,
    summary: (count: number) => string,
    timers: Timers = REAL,
  ) {
    this.#warn = warn;
    this.#summary = summary;
    this.#timers = timers;
  }

  warn(message: Words): void {
    if (this.#told < TOLD) {
      this.#told++;
      this.#warn(message);
    } else {
      this.#counted++;
    }
    this.#timer ??= this.#timers.set(() => this.#look(), this.#interval);
  }

  /** Prints at the end how many were only counted. */
  end(): void {
    this.#timers.clear(this.#timer);
    this.#timer = undefined;
    this.#tell();
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#counted === 0) {
      // It has been quiet: the next few are printed again.
      this.#told = 0;
      this.#interval = FIRST_INTERVAL;
      return;
    }
    this.#tell();
    this.#interval = Math.min(2 * this.#interval, LONGEST_INTERVAL);
    this.#timer = this.#timers.set(() => this.#look(), this.#interval);
  }

  #tell(): void {
    if (this.#counted > 0) this.#warn(this.#summary(this.#counted));
    this.#counted = 0;
  }
}
