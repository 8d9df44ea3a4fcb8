/** `exec:COMMAND`: a shell command that takes the stream on its standard input, or gives it. */
import { bytesReadable, close, dup } from "../../../ffi/fd.ts";
import { growPipe, pipe } from "../../../ffi/pipe.ts";
import { onExit } from "../../process/exit-hook.ts";
import { ProcessTree } from "../../process/process-tree.ts";
import { type EndSignal, signalStatus } from "../../process/signals.ts";
import { TerminalLoan } from "../../process/terminal-loan.ts";
import { Watchdog } from "../../process/watchdog.ts";
import type { Endpoint } from "../opening/endpoint.ts";
import { UnusableError } from "../spec.ts";

/** In the environment of the command and of all that it starts. */
const MARK = "NBD_STREAMING_ENDPOINT";

/** Milliseconds for a command to end that was killed: another user's (`sudo`) cannot be. */
const KILL_LIMIT = 1000;
/** Milliseconds for a command to end that has stopped taking or giving the stream. */
const END_LIMIT = 200;

/** What keys at the terminal send. */
const INTERRUPTS = ["SIGINT", "SIGQUIT"] as const;

/** @param signal what the user has pressed at the terminal while the command had it */
type Interrupt = (signal: EndSignal) => void;

/**
 * Starts a command that takes the stream, in a process group of its own.
 *
 * Nobody sees the end of the pipe before it is the end of the stream. The main thread keeps a writing end
 * beside the stream thread's, which {@link Endpoint.settle} closes, or {@link Endpoint.cancel} when the
 * command is known to be dead; and so does a process that kills the command should this one be killed.
 *
 * @param size the stream's length in bytes where it is known: NBD_STREAMING_SIZE for the command
 * @throws UnusableError when there is no shell
 */
export function startSinkCommand(
  command: string,
  size: bigint | undefined,
  interrupt: Interrupt,
): Endpoint {
  const ends = pipe();
  let watchdog: Watchdog | undefined;
  try {
    growPipe(ends.write);
    const guard = dup(ends.write);
    try {
      watchdog = new Watchdog(ends.write);
      const tree = start(size, {
        ...watchdog.watch(command, [ends.read, 1, 2]),
        pipe: ends.read,
      });
      return new CommandEnd(`exec:${command}`, ends.write, tree, interrupt, {
        fd: guard,
        watchdog,
      });
    } catch (error) {
      close(guard);
      throw error;
    }
  } catch (error) {
    watchdog?.release();
    close(ends.write);
    throw unusable(error);
  } finally {
    close(ends.read);
  }
}

/** Starts a command that gives the stream. As {@link startSinkCommand}. */
export function startSourceCommand(
  command: string,
  size: bigint | undefined,
  interrupt: Interrupt,
): Endpoint {
  const ends = pipe();
  try {
    growPipe(ends.write);
    const tree = start(size, { cmd: ["/bin/sh", "-c", command], stdio: [0, ends.write, 2] });
    return new CommandEnd(`exec:${command}`, ends.read, tree, interrupt);
  } catch (error) {
    close(ends.read);
    throw unusable(error);
  } finally {
    close(ends.write);
  }
}

function start(
  size: bigint | undefined,
  options: { cmd: readonly string[]; stdio: readonly number[]; pipe?: number },
): ProcessTree {
  // Not that of another stream, in whose command this program may be.
  const { NBD_STREAMING_SIZE: _, ...environment } = process.env;
  const length = size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) };
  return new ProcessTree(MARK, { ...options, env: { ...environment, ...length }, group: true });
}

function unusable(error: unknown): UnusableError {
  return new UnusableError(
    `it cannot be started: ${(error as Error).message}`,
    "is there a shell?",
  );
}

/** What keeps a command from seeing the end of the pipe. */
interface Guard {
  /** A second writing end. */
  readonly fd: number;
  readonly watchdog: Watchdog;
}

class CommandEnd implements Endpoint {
  readonly handle;
  readonly settles = true;
  readonly #tree: ProcessTree;
  readonly #loan: TerminalLoan;
  #guard: Guard | undefined;
  readonly #release: () => void;
  #emitted = () => 0;
  #cancelled: Promise<void> | undefined;
  #endedByUs = false;

  /** @param guard of a sink */
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
    // The end of the program would be end of file for a sink.
    this.#release = guard === undefined ? () => {} : onExit(() => this.#tree.kill());
    const loan = new TerminalLoan(tree, () => this.#moved());
    this.#loan = loan;
    const { leader } = tree;
    leader.onStop = (signal) => loan.stopped(signal);
    void leader.exited.then(() => {
      loan.end();
      const signal = INTERRUPTS.find((one) => one === this.killedBy);
      if (loan.granted && signal !== undefined) interrupt(signal);
    });
  }

  get killedBy(): NodeJS.Signals | number | undefined {
    if (this.#endedByUs) return undefined;
    const { exitCode, signalCode } = this.#tree.leader;
    // A command that has got Ctrl-C by itself may tell of it as shells do.
    const told = INTERRUPTS.find((signal) => exitCode === signalStatus(signal));
    return signalCode ?? (this.#loan.granted ? told : undefined);
  }

  follow(emitted: () => number): void {
    this.#emitted = emitted;
  }

  /** Bytes that the command has taken or given. */
  #moved(): number {
    return this.#emitted() - (this.#guard === undefined ? 0 : bytesReadable(this.#guard.fd));
  }

  cancel(): Promise<void> {
    this.#tree.leader.look();
    this.#endedByUs ||= this.#tree.leader.running;
    // At once, and before anything that may fail.
    this.#tree.kill();
    return (this.#cancelled ??= this.#die());
  }

  async #die(): Promise<void> {
    this.#loan.end();
    if (await this.#tree.gone(KILL_LIMIT)) this.#letGo();
    else this.#letGoWhenGone();
  }

  /** What would not die, as another user's process, is not to see the end of the pipe from here. */
  #letGoWhenGone(): void {
    const timer = setInterval(async () => {
      if (!(await this.#tree.gone(0))) return;
      clearInterval(timer);
      this.#letGo();
    }, KILL_LIMIT);
    timer.unref();
  }

  async settle(stop: AbortSignal): Promise<string | undefined> {
    this.#letGo();
    const { leader } = this.#tree;
    const stopped = new Promise<"stopped">((resolve) => {
      if (stop.aborted) resolve("stopped");
      stop.addEventListener("abort", () => resolve("stopped"), { once: true });
    });
    if ((await Promise.race([leader.exited, stopped])) === "stopped") {
      await this.cancel();
      return `${this.name} was ended before it was done`;
    }
    return leader.exitCode === 0 ? undefined : `${this.name} ${this.#ending}`;
  }

  async howItEnded(): Promise<string | undefined> {
    const { leader } = this.#tree;
    if (!this.#endedByUs) await Promise.race([leader.exited, Bun.sleep(END_LIMIT)]);
    return this.#endedByUs || leader.running ? undefined : this.#ending;
  }

  get #ending(): string {
    const { exitCode, signalCode } = this.#tree.leader;
    if (signalCode !== null) return `was killed by ${signalCode}`;
    return exitCode === 0 ? "ended with status 0" : `failed with status ${exitCode}`;
  }

  remove(): void {
    this.#loan.end();
    // Neither settled nor cancelled, as after a fault: it is not let go alive.
    if (this.#guard !== undefined) void this.cancel();
    this.#tree.release();
  }

  #letGo(): void {
    const guard = this.#guard;
    this.#guard = undefined;
    this.#release();
    if (guard === undefined) return;
    try {
      guard.watchdog.release();
    } finally {
      close(guard.fd);
    }
  }
}
