/** `exec:COMMAND`: a shell command that reads the stream from its standard input, or writes it. */
import { bytesReadable, close, dup } from "../../../ffi/fd.ts";
import { growPipe, pipe } from "../../../ffi/pipe.ts";
import { ProcessTree } from "../../process/process-tree.ts";
import { type EndSignal, signalStatus } from "../../process/signals.ts";
import { TerminalLoan } from "../../process/terminal-loan.ts";
import { Watchdog } from "../../process/watchdog.ts";
import type { Endpoint } from "./endpoint.ts";
import { UnusableError } from "../spec.ts";

/** The environment variable by which the command's processes are found. */
const MARK = "NBD_STREAMING_ENDPOINT";

/** Milliseconds for a killed command to end. A process of another user (`sudo`) cannot be killed. */
const KILL_LIMIT = 1000;
/** Milliseconds for a command to end that has closed its end of the pipe. */
const EXIT_LIMIT = 200;

/** The signals of Ctrl-C and Ctrl-\. */
const INTERRUPTS = ["SIGINT", "SIGQUIT"] as const;

/** What a command finds in its environment about its stream. */
export interface StreamFacts {
  /** The stream's length in bytes, if known: NBD_STREAMING_SIZE. */
  readonly size?: bigint | undefined;
  /** The only export name, if there is one: NBD_STREAMING_EXPORT. */
  readonly exportName?: string | undefined;
}

/** @param signal of a key that was pressed while the command had the terminal */
type Interrupt = (signal: EndSignal) => void;

/**
 * Starts a command that reads the stream, in a process group of its own.
 *
 * The command must not see end of file before the end of the stream. So two processes hold a writing
 * end of the pipe beside the stream thread's: this one, until {@link Endpoint.waitForExit}, or until
 * the command is dead after {@link Endpoint.cancel}; and the watchdog, which kills the command if this
 * process is killed.
 *
 * @param facts what is told to the command
 * @throws UnusableError when there is no shell
 */
export function startSinkCommand(
  command: string,
  facts: StreamFacts,
  interrupt: Interrupt,
): Endpoint {
  const ends = pipe();
  let guard: number | undefined;
  let watchdog: Watchdog | undefined;
  try {
    growPipe(ends.write);
    guard = dup(ends.write);
    watchdog = new Watchdog(ends.write);
    const watched = watchdog.watch(command, [ends.read, 1, 2]);
    const tree = start(facts, { ...watched, pipe: ends.read });
    return new CommandEnd(`exec:${command}`, ends.write, tree, interrupt, { fd: guard, watchdog });
  } catch (error) {
    if (guard !== undefined) close(guard);
    watchdog?.release();
    close(ends.write);
    throw unusable(error);
  } finally {
    close(ends.read);
  }
}

/** Starts a command that writes the stream; parameters and errors are those of {@link startSinkCommand}. */
export function startSourceCommand(
  command: string,
  facts: StreamFacts,
  interrupt: Interrupt,
): Endpoint {
  const ends = pipe();
  try {
    growPipe(ends.write);
    const tree = start(facts, { cmd: ["/bin/sh", "-c", command], stdio: [0, ends.write, 2] });
    return new CommandEnd(`exec:${command}`, ends.read, tree, interrupt);
  } catch (error) {
    close(ends.read);
    throw unusable(error);
  } finally {
    close(ends.write);
  }
}

function start(
  { size, exportName }: StreamFacts,
  options: { cmd: readonly string[]; stdio: readonly number[]; pipe?: number },
): ProcessTree {
  // Without the facts of another stream, in whose command this program may run.
  const { NBD_STREAMING_SIZE: _, NBD_STREAMING_EXPORT: __, ...environment } = process.env;
  const env = {
    ...environment,
    ...(size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) }),
    ...(exportName === undefined ? {} : { NBD_STREAMING_EXPORT: exportName }),
  };
  return new ProcessTree(MARK, { ...options, env, group: true });
}

function unusable(error: unknown): UnusableError {
  return new UnusableError(
    `it cannot be started: ${(error as Error).message}`,
    "is there a shell?",
  );
}

/** Keeps a command from seeing end of file. */
interface Guard {
  /** A second writing end. */
  readonly fd: number;
  readonly watchdog: Watchdog;
}

class CommandEnd implements Endpoint {
  readonly handle;
  readonly hasExitStatus = true;
  readonly #tree: ProcessTree;
  readonly #loan: TerminalLoan;
  #guard: Guard | undefined;
  readonly #cancelKill: () => void;
  #emitted = () => 0;
  #cancelled: Promise<void> | undefined;
  /** True when {@link cancel} has killed the command. */
  #killedHere = false;

  /** @param guard for a sink */
  constructor(
    readonly name: string,
    fd: number,
    tree: ProcessTree,
    interrupt: Interrupt,
    guard?: Guard,
  ) {
    this.handle = { kind: "pipe", name, fd } as const;
    this.#tree = tree;
    this.#guard = guard;
    // The end of this process would be end of file for a sink.
    this.#cancelKill = guard === undefined ? () => {} : tree.killOnExit();
    const loan = new TerminalLoan(tree, () => this.#moved());
    this.#loan = loan;
    const { child } = tree;
    child.onStop = (signal) => loan.stopped(signal);
    void child.exited.then(() => {
      loan.end();
      const signal = INTERRUPTS.find((one) => one === this.killedBy);
      if (loan.granted && signal !== undefined) interrupt(signal);
    });
  }

  get killedBy(): NodeJS.Signals | number | undefined {
    if (this.#killedHere) return undefined;
    const { exitCode, signalCode } = this.#tree.child;
    // A command that Ctrl-C has reached may report the signal by its status, as shells do.
    const reported = INTERRUPTS.find((signal) => exitCode === signalStatus(signal));
    return signalCode ?? (this.#loan.granted ? reported : undefined);
  }

  follow(emitted: () => number): void {
    this.#emitted = emitted;
  }

  /** Bytes that the command has read or written. */
  #moved(): number {
    return this.#emitted() - (this.#guard === undefined ? 0 : bytesReadable(this.#guard.fd));
  }

  cancel(): Promise<void> {
    this.#tree.child.poll();
    this.#killedHere ||= this.#tree.child.running;
    // At once, before anything that may fail.
    this.#tree.kill();
    return (this.#cancelled ??= this.#closeWhenDead());
  }

  async #closeWhenDead(): Promise<void> {
    this.#loan.end();
    if (await this.#tree.waitForExit(KILL_LIMIT)) {
      this.#closeGuard();
      return;
    }
    // A process that cannot be killed, such as another user's, must not see end of file either.
    const timer = setInterval(async () => {
      if (!(await this.#tree.waitForExit(0))) return;
      clearInterval(timer);
      this.#closeGuard();
    }, KILL_LIMIT);
    timer.unref();
  }

  async waitForExit(stop: AbortSignal): Promise<string | undefined> {
    this.#closeGuard();
    const { child } = this.#tree;
    const stopped = new Promise<"stopped">((resolve) => {
      if (stop.aborted) resolve("stopped");
      stop.addEventListener("abort", () => resolve("stopped"), { once: true });
    });
    if ((await Promise.race([child.exited, stopped])) === "stopped") {
      // It may have ended without that being known here.
      child.poll();
      if (child.running) {
        await this.cancel();
        return `${this.name} was ended before it was done`;
      }
    }
    return child.exitCode === 0 ? undefined : `${this.name} ${this.#exitText}`;
  }

  async describeExit(): Promise<string | undefined> {
    const { child } = this.#tree;
    if (!this.#killedHere) await Promise.race([child.exited, Bun.sleep(EXIT_LIMIT)]);
    return this.#killedHere || child.running ? undefined : this.#exitText;
  }

  get #exitText(): string {
    const { exitCode, signalCode } = this.#tree.child;
    if (signalCode !== null) return `was killed by ${signalCode}`;
    return exitCode === 0 ? "ended with status 0" : `failed with status ${exitCode}`;
  }

  remove(): void {
    this.#loan.end();
    // Neither waited for nor cancelled, as after a bug: the command must not see end of file.
    if (this.#guard !== undefined) void this.cancel();
    this.#tree.release();
  }

  #closeGuard(): void {
    const guard = this.#guard;
    this.#guard = undefined;
    this.#cancelKill();
    if (guard === undefined) return;
    try {
      guard.watchdog.release();
    } finally {
      close(guard.fd);
    }
  }
}
