/** The signals that ask a program to end. */
import { constants } from "node:os";
import { endWithParent as askForParentsEnd } from "../../ffi/process.ts";
import { isIgnored } from "../../ffi/signal.ts";

/**
 * All that end a program by default (signal(7)) and can be caught here. Not among them:
 *
 * - SIGUSR1 asks for a line of progress. SIGPIPE and SIGXFSZ are ignored by Bun: a write fails instead.
 * - SIGPWR is Bun's own, with which it stops its threads to collect garbage. It ends nothing.
 * - SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV tell of a fault in the instruction that comes next: a
 *   program that goes on to end in order would meet it again and again.
 * - SIGSTKFLT and the real-time signals, for which Bun has no listeners, and SIGKILL end the program on
 *   the spot; what becomes of `exec:` then is the {@link Watchdog}'s.
 */
const END_SIGNALS = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGABRT",
  "SIGALRM",
  "SIGIO",
  "SIGPROF",
  "SIGSYS",
  "SIGUSR2",
  "SIGVTALRM",
  "SIGXCPU",
] as const;

export type EndSignal = (typeof END_SIGNALS)[number];

/** The status of a process that a signal has ended, as shells report it. */
export function signalStatus(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/** What a command is told that has to end because the signal has come. */
export function askingToEnd(signal: EndSignal): "SIGINT" | "SIGTERM" | "SIGHUP" {
  // The others would have it dump core, or mean nothing to it.
  return signal === "SIGINT" || signal === "SIGHUP" ? signal : "SIGTERM";
}

/**
 * Calls `listener` for each from now on, in place of what they do by default.
 *
 * @returns gives them their default effect back
 */
export function catchSignals(listener: (signal: EndSignal) => void): () => void {
  const releases = END_SIGNALS.map((signal) => listen(signal, () => listener(signal)));
  return () => {
    for (const release of releases) release();
  };
}

/**
 * Listens for one signal, unless the program was started with it ignored: nohup(1) and shells ask for it
 * that way, and it stays so.
 *
 * @returns gives it its default effect back
 */
export function listen(signal: NodeJS.Signals, listener: () => void): () => void {
  // One that has a listener is not ignored any more, and was not.
  if (process.listenerCount(signal) === 0 && isIgnored(signal)) return () => {};
  process.on(signal, listener);
  return () => process.off(signal, listener);
}

/** The end of the parent is as SIGTERM from now on; it may have been before. */
export function endWithParent(listener: (signal: EndSignal) => void): void {
  const parent = process.ppid;
  askForParentsEnd();
  if (process.ppid !== parent) listener("SIGTERM");
}
