/** A child process: its start, its exit status, signals to it. */
import { constants } from "node:os";
import { send } from "./proc.ts";
import { isIgnored, resetSignal } from "../../ffi/signal.ts";
import { exitState, reap, spawn, type SpawnOptions, stopState } from "../../ffi/spawn.ts";

/** Milliseconds between two polls where SIGCHLD does not arrive: in a Worker, or without its listener. */
const POLL_INTERVAL = 200;

/** The status of a child that other code has reaped. It must not be 0. */
const UNKNOWN = 255;

/**
 * Resets SIGCHLD to its default if it is ignored, as some supervisors start their programs: the kernel
 * would discard exit statuses (wait(2), ECHILD). Must be called before any process is started, also in
 * a library: a program that starts processes cannot want SIGCHLD ignored, and ignoring it again later
 * would lose the status of children that still run.
 */
export function keepExitStatuses(): void {
  if (isIgnored("SIGCHLD")) resetSignal("SIGCHLD");
}

const running = new Set<Child>();
let timer: ReturnType<typeof setInterval> | undefined;

function pollAll(): void {
  for (const child of [...running]) child.poll();
}

/** Must be called before a child is started, as it may end at once. */
function startPolling(): void {
  if (timer !== undefined) return;
  process.on("SIGCHLD", pollAll);
  timer = setInterval(pollAll, POLL_INTERVAL);
}

function stopPollingIfIdle(): void {
  if (running.size > 0) return;
  process.off("SIGCHLD", pollAll);
  clearInterval(timer);
  timer = undefined;
}

/**
 * A child process. It stays a zombie until it is {@link release}d, so that its process id and its
 * process group's cannot be reused, and signals cannot reach another process.
 */
export class Child {
  readonly pid: number;
  /** As in Bun's Subprocess: null while it runs, and when a signal has killed it. */
  exitCode: number | null = null;
  /** The signal that killed it; a number where the signal has no name. */
  signalCode: NodeJS.Signals | number | null = null;
  /** Resolves when the process has ended; never rejects. */
  readonly exited: Promise<void>;
  /** Called when a signal has stopped the process. */
  onStop: (signal: NodeJS.Signals | number) => void = () => {};
  #ended = () => {};
  #released = false;

  /** @throws SyscallError as {@link spawn} */
  constructor(options: SpawnOptions) {
    keepExitStatuses();
    startPolling();
    try {
      this.pid = spawn(options);
    } catch (error) {
      stopPollingIfIdle();
      throw error;
    }
    running.add(this);
    this.exited = new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  get running(): boolean {
    return this.exitCode === null && this.signalCode === null;
  }

  /** True until the process is reaped: until then its process id cannot be another process's. */
  get ownsPid(): boolean {
    return this.running || !this.#released;
  }

  /** Looks whether the process has stopped or ended. */
  poll(): void {
    if (!this.running) return;
    const stop = stopState(this.pid);
    if (stop !== undefined && stop !== "unknown") this.onStop(signalName(stop.value));
    const exit = exitState(this.pid);
    if (exit === undefined) return;
    if (exit === "unknown") this.exitCode = UNKNOWN;
    else if (exit.state === "exited") this.exitCode = exit.value;
    else this.signalCode = signalName(exit.value);
    running.delete(this);
    stopPollingIfIdle();
    if (this.#released || exit === "unknown") this.#reap();
    this.#ended();
  }

  /** Sends a signal, unless the process has been reaped. */
  kill(signal: NodeJS.Signals): void {
    if (this.ownsPid) send(this.pid, signal);
  }

  /** No signal will be sent any more: reaps the process now, or when it ends. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    if (!this.running) this.#reap();
  }

  #reap(): void {
    this.#released = true;
    reap(this.pid);
  }
}

const NAMES = new Map<number, NodeJS.Signals>();
for (const [name, number] of Object.entries(constants.signals)) {
  if (!NAMES.has(number)) NAMES.set(number, name as NodeJS.Signals);
}

/** A signal's name, or its number where it has none (real-time signals). */
export function signalName(number: number): NodeJS.Signals | number {
  return NAMES.get(number) ?? number;
}
