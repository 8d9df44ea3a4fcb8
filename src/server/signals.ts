/** Signals that ask the program to end. */
import { constants } from "node:os";

const CAUGHT = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export type EndSignal = (typeof CAUGHT)[number];

/** The status of a process that a signal has ended, as shells report it. */
export function signalStatus(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/** Remembers the first such signal, so that the program ends in order instead of at once. */
export class Signals {
  /** The first that came. */
  caught: EndSignal | undefined;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(signal: EndSignal) => void>();
  readonly #handlers = new Map<EndSignal, () => void>();

  constructor() {
    for (const signal of CAUGHT) {
      const handler = () => {
        this.caught ??= signal;
        this.#stop.abort();
        for (const listener of [...this.#listeners]) listener(signal);
      };
      this.#handlers.set(signal, handler);
      process.on(signal, handler);
    }
  }

  /** Aborted when one has come. */
  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /** Calls `listener` for every signal until the returned function is called. */
  subscribe(listener: (signal: EndSignal) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Gives the signals their default effect back. */
  release(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
    this.#handlers.clear();
  }
}
