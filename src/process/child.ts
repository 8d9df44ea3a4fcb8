/** A program that was started from here, and what has become of it. */
import { constants } from "node:os";
import { isIgnored, resetSignal } from "../../ffi/signal.ts";
import { endOf, reap, spawn, type SpawnOptions, stopOf } from "../../ffi/spawn.ts";

/** Milliseconds between two looks where SIGCHLD is not heard: in a Worker, or without its listener. */
const LOOKING = 200;

/** The status of a child whose end somebody else has asked for: 0 it must not be. */
const UNKNOWN = 255;

/**
 * Sees to it that it is told how children end. Some supervisors start their programs with SIGCHLD
 * ignored, and then the kernel forgets at once how a child has ended (wait(2), ECHILD). To be called
 * before anything is started, by whatever means; in a library, too: no other program that starts
 * processes can want it, and to ignore it again would lose those that run by then.
 */
export function keepEndsOfChildren(): void {
  if (isIgnored("SIGCHLD")) resetSignal("SIGCHLD");
}

/** All that have not ended. */
const living = new Set<Child>();
let timer: ReturnType<typeof setInterval> | undefined;

function lookAtAll(): void {
  for (const child of [...living]) child.look();
}

/** To be called before one is started, which may end at once. */
function hear(): void {
  if (timer !== undefined) return;
  process.on("SIGCHLD", lookAtAll);
  timer = setInterval(lookAtAll, LOOKING);
}

function hearNoMore(): void {
  if (living.size > 0) return;
  process.off("SIGCHLD", lookAtAll);
  clearInterval(timer);
  timer = undefined;
}

/**
 * A child process. Until it is {@link release}d its process id, and that of a group that it leads,
 * cannot become those of another one, so that signals reach nobody else.
 */
export class Child {
  readonly pid: number;
  /** As in Bun's Subprocess: null while it runs, and when a signal has killed it. */
  exitCode: number | null = null;
  /** What has killed it; a number where the signal has no name. */
  signalCode: NodeJS.Signals | number | null = null;
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<void>;
  /** A signal has stopped it. */
  onStop: (signal: NodeJS.Signals | number) => void = () => {};
  #ended = () => {};
  #released = false;

  /** @throws SyscallError as {@link spawn} */
  constructor(options: SpawnOptions) {
    keepEndsOfChildren();
    hear();
    try {
      this.pid = spawn(options);
    } catch (error) {
      hearNoMore();
      throw error;
    }
    living.add(this);
    this.exited = new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  get running(): boolean {
    return this.exitCode === null && this.signalCode === null;
  }

  /** True when the ids still are its own. */
  get held(): boolean {
    return this.running || !this.#released;
  }

  /** Asks how it is. */
  look(): void {
    if (!this.running) return;
    const stop = stopOf(this.pid);
    if (stop !== undefined && stop !== "unknown") this.onStop(signalName(stop.value));
    const end = endOf(this.pid);
    if (end === undefined) return;
    if (end === "unknown") this.exitCode = UNKNOWN;
    else if (end.state === "exited") this.exitCode = end.value;
    else this.signalCode = signalName(end.value);
    living.delete(this);
    hearNoMore();
    if (this.#released || end === "unknown") this.#reap();
    this.#ended();
  }

  /** Sends it a signal, unless it has been reaped. */
  kill(signal: NodeJS.Signals): void {
    if (this.held) send(this.pid, signal);
  }

  /** Its ids are not needed any more: it leaves no zombie. */
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

/** Sends a signal to a process, or to a group (kill(2), negative); false when there is none. */
export function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    // What is another user's is there, but may not be signalled.
    return (error as { code?: string }).code === "EPERM";
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
