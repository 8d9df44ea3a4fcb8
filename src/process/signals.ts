/** The signals that ask a program to end. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { endWithParent as askForParentsEnd } from "../../ffi/process.ts";

const END_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export type EndSignal = (typeof END_SIGNALS)[number];

/** The status of a process that a signal has ended, as shells report it. */
export function signalStatus(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/**
 * Calls `listener` for each from now on, in place of what they do by default.
 *
 * @returns gives them their default effect back
 */
export function catchSignals(listener: (signal: EndSignal) => void): () => void {
  const ignored = ignoredSignals();
  const handlers = END_SIGNALS
    // As nohup(1) and shells ask for it: what was ignored before stays so.
    .filter((signal) => !ignored.has(signal))
    .map((signal) => ({ signal, handler: () => listener(signal) }));
  for (const { signal, handler } of handlers) process.on(signal, handler);
  return () => {
    for (const { signal, handler } of handlers) process.off(signal, handler);
  };
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
  return new Set(END_SIGNALS.filter((signal) => (mask & bit(signal)) !== 0n));
}

/** The end of the parent is as SIGTERM from now on; it may have been before. */
export function endWithParent(listener: (signal: EndSignal) => void): void {
  const parent = process.ppid;
  askForParentsEnd();
  if (process.ppid !== parent) listener("SIGTERM");
}
