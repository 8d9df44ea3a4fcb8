/** `exec:COMMAND`: a shell command that takes the stream on its standard input, or gives it. */
import { close, dup } from "../../../ffi/fd.ts";
import { growPipe, pipe } from "../../../ffi/pipe.ts";
import { atExit } from "../../process/at-exit.ts";
import { signalAll } from "../../process/descendants.ts";
import { Family } from "../../process/family.ts";
import type { FarEnd } from "./far-end.ts";
import { UnusableError } from "./unusable.ts";

/** In the environment of the command and of all that it starts. */
const MARK = "NBD_STREAMING_ENDPOINT";

/** Milliseconds for a command to end that was killed: another user's (`sudo`) cannot be. */
const KILL_LIMIT = 1000;

/**
 * Starts a command that takes the stream.
 *
 * The main thread keeps a writing end of its own beside the stream thread's: as long as it is open,
 * the command cannot see end of file, and only {@link FarEnd.settle} closes it first.
 *
 * @param size the stream's length in bytes where it is known: NBD_STREAMING_SIZE for the command
 * @throws UnusableError when there is no shell
 */
export function startSinkCommand(command: string, size: bigint | undefined): FarEnd {
  const ends = pipe();
  growPipe(ends.write);
  const family = start(command, size, [ends.read, "inherit", "inherit"], ends, ends.read);
  close(ends.read);
  return new CommandEnd(`exec:${command}`, ends.write, family, dup(ends.write));
}

/** Starts a command that gives the stream. As {@link startSinkCommand}. */
export function startSourceCommand(command: string, size: bigint | undefined): FarEnd {
  const ends = pipe();
  growPipe(ends.write);
  const family = start(command, size, ["inherit", ends.write, "inherit"], ends);
  close(ends.write);
  return new CommandEnd(`exec:${command}`, ends.read, family);
}

function start(
  command: string,
  size: bigint | undefined,
  stdio: [number | "inherit", number | "inherit", "inherit"],
  ends: { read: number; write: number },
  pipe?: number,
): Family {
  // Not that of another stream, in whose command this program may be.
  const { NBD_STREAMING_SIZE: _, ...environment } = process.env;
  try {
    return new Family(MARK, {
      cmd: ["/bin/sh", "-c", command],
      env: {
        ...environment,
        ...(size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) }),
      },
      stdio,
      ...(pipe === undefined ? {} : { pipe }),
    });
  } catch (error) {
    close(ends.read);
    close(ends.write);
    throw new UnusableError(
      `it cannot be started: ${(error as Error).message}`,
      "is there a shell?",
    );
  }
}

class CommandEnd implements FarEnd {
  readonly spec;
  readonly settles = true;
  readonly #family: Family;
  #guard: number;
  readonly #release: () => void;

  /** @param guard of a sink, the second writing end */
  constructor(
    readonly name: string,
    fd: number,
    family: Family,
    guard = -1,
  ) {
    this.spec = { kind: "pipe", name, fd } as const;
    this.#family = family;
    this.#guard = guard;
    // The end of the program would be end of file for a sink.
    this.#release = guard < 0 ? () => {} : atExit(() => this.#kill());
  }

  get killedBy(): NodeJS.Signals | number | undefined {
    return this.#family.leader.signalCode ?? undefined;
  }

  async cancel(): Promise<void> {
    this.#kill();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, KILL_LIMIT);
    await Promise.race([this.#family.leader.exited, promise]);
    clearTimeout(timer);
    this.#letGo();
  }

  #kill(): void {
    const stopped = new Set<number>();
    const family = this.#family;
    // In a pipeline, the death of one would be end of file for the next. While all are stopped,
    // nobody gets to see it before its own end. One that is not stopped yet may start another.
    for (let found = family.members(); found.length > 0;) {
      signalAll(found, "SIGSTOP");
      for (const pid of found) stopped.add(pid);
      found = family.members().filter((pid) => !stopped.has(pid));
    }
    signalAll([...stopped], "SIGKILL");
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
    const { exitCode, signalCode } = leader;
    if (signalCode !== null) return `${this.name} was killed by ${signalCode}`;
    return exitCode === 0 ? undefined : `${this.name} failed with status ${exitCode}`;
  }

  remove(): void {
    this.#letGo();
  }

  #letGo(): void {
    this.#release();
    if (this.#guard >= 0) close(this.#guard);
    this.#guard = -1;
  }
}
