/** `exec:COMMAND`: a shell command that takes the stream on its standard input, or gives it. */
import { bytesReadable, close, dup } from "../../../ffi/fd.ts";
import { growPipe, pipe } from "../../../ffi/pipe.ts";
import { atExit } from "../../process/at-exit.ts";
import { Family } from "../../process/family.ts";
import { type EndSignal, signalStatus } from "../../process/signals.ts";
import { TerminalLoan } from "../../process/terminal-loan.ts";
import { Watchdog } from "../../process/watchdog.ts";
import type { FarEnd } from "./far-end.ts";
import { UnusableError } from "./unusable.ts";

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
 * beside the stream thread's, which {@link FarEnd.settle} closes, or {@link FarEnd.cancel} when the
 * command is known to be dead; and so does a process that kills the command should this one be killed.
 *
 * @param size the stream's length in bytes where it is known: NBD_STREAMING_SIZE for the command
 * @throws UnusableError when there is no shell
 */
export function startSinkCommand(
  command: string,
  size: bigint | undefined,
  interrupt: Interrupt,
): FarEnd {
  const ends = pipe();
  let watchdog: Watchdog | undefined;
  try {
    growPipe(ends.write);
    const guard = dup(ends.write);
    try {
      watchdog = new Watchdog(ends.write);
      const family = start(size, {
        ...watchdog.watch(command, [ends.read, 1, 2]),
        pipe: ends.read,
      });
      return new CommandEnd(`exec:${command}`, ends.write, family, interrupt, {
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
): FarEnd {
  const ends = pipe();
  try {
    growPipe(ends.write);
    const family = start(size, { cmd: ["/bin/sh", "-c", command], stdio: [0, ends.write, 2] });
    return new CommandEnd(`exec:${command}`, ends.read, family, interrupt);
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
): Family {
  // Not that of another stream, in whose command this program may be.
  const { NBD_STREAMING_SIZE: _, ...environment } = process.env;
  const length = size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) };
  return new Family(MARK, { ...options, env: { ...environment, ...length }, group: true });
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

class CommandEnd implements FarEnd {
  readonly spec;
  readonly settles = true;
  readonly #family: Family;
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
    family: Family,
    interrupt: Interrupt,
    guard?: Guard,
  ) {
    this.spec = { kind: "pipe", name, fd } as const;
    this.#family = family;
    this.#guard = guard;
    // The end of the program would be end of file for a sink.
    this.#release = guard === undefined ? () => {} : atExit(() => this.#family.kill());
    const loan = new TerminalLoan(family, () => this.#moved());
    this.#loan = loan;
    const { leader } = family;
    leader.onStop = (signal) => loan.stopped(signal);
    void leader.exited.then(() => {
      loan.end();
      const signal = INTERRUPTS.find((one) => one === this.killedBy);
      if (loan.granted && signal !== undefined) interrupt(signal);
    });
  }

  get killedBy(): NodeJS.Signals | number | undefined {
    if (this.#endedByUs) return undefined;
    const { exitCode, signalCode } = this.#family.leader;
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
    this.#family.leader.look();
    this.#endedByUs ||= this.#family.leader.running;
    // At once, and before anything that may fail.
    this.#family.kill();
    return (this.#cancelled ??= this.#die());
  }

  async #die(): Promise<void> {
    this.#loan.end();
    if (await this.#family.gone(KILL_LIMIT)) this.#letGo();
    else this.#letGoWhenGone();
  }

  /** What would not die, as another user's process, is not to see the end of the pipe from here. */
  #letGoWhenGone(): void {
    const timer = setInterval(async () => {
      if (!(await this.#family.gone(0))) return;
      clearInterval(timer);
      this.#letGo();
    }, KILL_LIMIT);
    timer.unref();
  }

  async settle(stop: AbortSignal): Promise<string | undefined> {
    this.#letGo();
    const { leader } = this.#family;
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
    const { leader } = this.#family;
    if (!this.#endedByUs) await Promise.race([leader.exited, Bun.sleep(END_LIMIT)]);
    return this.#endedByUs || leader.running ? undefined : this.#ending;
  }

  get #ending(): string {
    const { exitCode, signalCode } = this.#family.leader;
    if (signalCode !== null) return `was killed by ${signalCode}`;
    return exitCode === 0 ? "ended with status 0" : `failed with status ${exitCode}`;
  }

  remove(): void {
    this.#loan.end();
    // Neither settled nor cancelled, as after a fault: it is not let go alive.
    if (this.#guard !== undefined) void this.cancel();
    this.#family.release();
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
