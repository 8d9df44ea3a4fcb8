/** The signals that ask a program to end (signal(7)). */
import { constants } from "node:os";
import { endWithParent as askForParentsEnd } from "../../ffi/process.ts";
import { isIgnored } from "../../ffi/signal.ts";

/**
 * The signals that end a program by default and can be caught here. Not among them:
 *
 * - SIGUSR1 asks for a line of progress. SIGPIPE and SIGXFSZ are ignored by Bun: a write fails instead.
 * - SIGPWR is used by Bun to stop its threads for garbage collection. It ends nothing.
 * - SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV report a faulty instruction, which would be executed
 *   again after the handler.
 * - SIGSTKFLT and the real-time signals, for which Bun has no listeners, and SIGKILL end the program at
 *   once; the {@link Watchdog} then kills the command of `exec:`.
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

/** The exit status that shells report for a process that a signal has ended. */
export function signalStatus(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/** The signal that ends a captive command when this program has received `signal`. */
export function forwardedSignal(signal: EndSignal): "SIGINT" | "SIGTERM" | "SIGHUP" {
  // The others would make it dump core, or mean nothing to it.
  return signal === "SIGINT" || signal === "SIGHUP" ? signal : "SIGTERM";
}

/**
 * Calls `listener` for each of these signals, in place of their default effect.
 *
 * @returns restores the default effect
 */
export function catchSignals(listener: (signal: EndSignal) => void): () => void {
  const releases = END_SIGNALS.map((signal) => listen(signal, () => listener(signal)));
  return () => {
    for (const release of releases) release();
  };
}

/**
 * Listens for one signal, unless the program was started with it ignored, as by nohup(1): then it stays
 * ignored.
 *
 * @returns restores the default effect
 */
export function listen(signal: NodeJS.Signals, listener: () => void): () => void {
  // A signal that has a listener already was not ignored at the start.
  if (process.listenerCount(signal) === 0 && isIgnored(signal)) return () => {};
  process.on(signal, listener);
  return () => process.off(signal, listener);
}

/** Has the kernel send SIGTERM when the parent ends; calls `listener` if the parent has just ended. */
export function endWithParent(listener: (signal: EndSignal) => void): void {
  const parent = process.ppid;
  askForParentsEnd();
  if (process.ppid !== parent) listener("SIGTERM");
}
