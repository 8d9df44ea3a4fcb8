/** Signals that ask the program to end. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { endWithParent as askForParentsEnd } from "../../ffi/process.ts";

const CAUGHT = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export type EndSignal = (typeof CAUGHT)[number];

/** The status of a process that a signal has ended, as shells report it. */
export function signalStatus(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/** Those of the signals that the program was started with ignored (proc(5), SigIgn). */
function ignoredSignals(): Set<EndSignal> {
  let mask = 0n;
  try {
    const status = readFileSync("/proc/self/status", "latin1");
    mask = BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  } catch {
    // Without /proc nothing is known to be ignored.
  }
  const bit = (signal: EndSignal) => 1n << BigInt(constants.signals[signal] - 1);
  return new Set(CAUGHT.filter((signal) => (mask & bit(signal)) !== 0n));
}

/** The end of the parent is as SIGTERM from now on; it may have been before. */
export function endWithParent(signals: Signals): void {
  const parent = process.ppid;
  askForParentsEnd();
  if (process.ppid !== parent) signals.raise("SIGTERM");
}

/** Remembers the first such signal, so that the program ends in order instead of at once. */
export class Signals {
  /** The first that came. */
  caught: EndSignal | undefined;
  /** How many have come. */
  count = 0;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(signal: EndSignal) => void>();
  readonly #handlers = new Map<EndSignal, () => void>();

  constructor() {
    const ignored = ignoredSignals();
    for (const signal of CAUGHT) {
      // As nohup(1) and shells ask for it: what was ignored before stays so.
      if (ignored.has(signal)) continue;
      const handler = () => this.raise(signal);
      this.#handlers.set(signal, handler);
      process.on(signal, handler);
    }
  }

  /** Does what the signal would. */
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

  /** Gives the signals their default effect back. */
  release(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
    this.#handlers.clear();
  }
}
