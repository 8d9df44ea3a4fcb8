/** The signal that stops a stream: one that the program has got, or a call of `Streaming.stop`. */
import { UserError } from "../errors.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";

/** The error for a signal that came before the stream had begun. */
export function endedBefore(signal: EndSignal): UserError {
  const message = `ended by ${signal} before the stream had begun`;
  return new UserError("ERR_TRUNCATED", message, signalStatus(signal));
}

/** Remembers the first stop signal so that the stream can end in order. */
export class StopSignal {
  /** The first that came. */
  caught: EndSignal | undefined;
  count = 0;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(signal: EndSignal) => void>();

  raise(signal: EndSignal): void {
    this.caught ??= signal;
    this.count++;
    this.#stop.abort();
    for (const listener of [...this.#listeners]) listener(signal);
  }

  /** Aborted when the first has come. */
  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /** Calls `listener` for every signal until the returned function is called. */
  subscribe(listener: (signal: EndSignal) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
