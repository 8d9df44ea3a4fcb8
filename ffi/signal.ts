/** The dispositions and the mask of signals: sigaction(2), signal(2), pthread_sigmask(3). */
import { dlopen } from "bun:ffi";
import { constants } from "node:os";
import { SIG_BLOCK, SIG_DFL, SIG_IGN, SIG_SETMASK } from "./constants.ts";
import { SyscallError } from "./errno.ts";
import { libcName } from "./libc.ts";
import { Memory } from "./memory.ts";

// Loaded apart, as only the main thread handles signals.
const libc = dlopen(libcName, {
  sigaction: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  signal: { args: ["i32", "u64"], returns: "u64" },
  pthread_sigmask: { args: ["i32", "ptr", "ptr"], returns: "i32" },
}).symbols;

/** Bytes of a sigset_t, which has one bit for each signal, from signal 1 on. */
const SIGSET_SIZE = 128;

/** A sigset_t. */
export function signalSet(...signals: readonly NodeJS.Signals[]): Memory {
  const set = new Memory(SIGSET_SIZE);
  let bits = 0n;
  for (const signal of signals) bits |= 1n << BigInt(constants.signals[signal] - 1);
  set.view.setBigUint64(0, bits, true);
  return set;
}

// struct sigaction begins with the handler and has 152 bytes, in glibc and in musl.
const action = new Memory(160);

/** True when this process ignores the signal (SIG_IGN). Needs no descriptor. */
export function isIgnored(signal: NodeJS.Signals): boolean {
  if (libc.sigaction(constants.signals[signal], null, action.at(0)) < 0) return false;
  return action.view.getBigUint64(0, true) === BigInt(SIG_IGN);
}

/** Restores the default effect of a signal (SIG_DFL). */
export function resetSignal(signal: NodeJS.Signals): void {
  libc.signal(constants.signals[signal], SIG_DFL);
}

/** Runs `work`, which must not wait, with a signal blocked in this thread. */
export function withBlocked<T>(signal: NodeJS.Signals, work: () => T): T {
  const before = new Memory(SIGSET_SIZE);
  setMask(SIG_BLOCK, signalSet(signal), before);
  try {
    return work();
  } finally {
    setMask(SIG_SETMASK, before, null);
  }
}

function setMask(how: number, set: Memory, before: Memory | null): void {
  const errno = libc.pthread_sigmask(how, set.at(0), before === null ? null : before.at(0));
  if (errno !== 0) throw new SyscallError("pthread_sigmask", errno);
}
