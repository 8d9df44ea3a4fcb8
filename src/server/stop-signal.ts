/** The wish that a stream end, as a signal or somebody who stands for one expresses it. */
import { UserError } from "../errors.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";

/** What there is to say when it has come before there was a stream. */
export function endedBefore(signal: EndSignal): UserError {
  const message = `ended by ${signal} before the stream had begun`;
  return new UserError("ERR_TRUNCATED", message, signalStatus(signal));
}

/** Remembers the first such signal, so that the stream ends in order instead of at once. */
export class StopSignal {
  /** The first that came. */
  caught: EndSignal | undefined;
  /** How many have come. */
  count = 0;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(signal: EndSignal) => void>();

  /** The signal has come. */
  raise(signal: EndSignal): void {
    this.caught ??= signal;
    this.count++;
    this.#stop.abort();
    for (const listener of [...this.#listeners]) listener(signal);
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
}
