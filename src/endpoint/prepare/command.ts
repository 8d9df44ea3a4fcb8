/** `exec:COMMAND`: a shell command that takes the stream on its standard input, or gives it. */
import type { Subprocess } from "bun";
import { close, dup } from "../../../ffi/fd.ts";
import { growPipe, pipe } from "../../../ffi/pipe.ts";
import { adoptOrphans } from "../../../ffi/process.ts";
import { descendants, hasMark, signalAll } from "../../process/descendants.ts";
import type { FarEnd } from "./far-end.ts";
import { UnusableError } from "./unusable.ts";

/** In the environment of the command and of all that it starts. */
const MARK = "NBD_STREAMING_ENDPOINT";

/** True for a process that belongs to the far end's command of this program. */
export function isEndpointProcess(pid: number): boolean {
  return hasMark(pid, `${MARK}=${process.pid}`);
}

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
  const child = start(command, size, [ends.read, "inherit", "inherit"], ends);
  close(ends.read);
  return new CommandEnd(`exec:${command}`, ends.write, child, dup(ends.write));
}

/** Starts a command that gives the stream. As {@link startSinkCommand}. */
export function startSourceCommand(command: string, size: bigint | undefined): FarEnd {
  const ends = pipe();
  growPipe(ends.write);
  const child = start(command, size, ["inherit", ends.write, "inherit"], ends);
  close(ends.write);
  return new CommandEnd(`exec:${command}`, ends.read, child);
}

function start(
  command: string,
  size: bigint | undefined,
  stdio: [number | "inherit", number | "inherit", "inherit"],
  ends: { read: number; write: number },
): Subprocess {
  // Not that of another stream, in whose command this program may be.
  const { NBD_STREAMING_SIZE: _, ...environment } = process.env;
  try {
    const child = Bun.spawn({
      cmd: ["/bin/sh", "-c", command],
      env: {
        ...environment,
        [MARK]: String(process.pid),
        ...(size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) }),
      },
      stdio,
    });
    adoptOrphans();
    return child;
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
  readonly #child: Subprocess;
  #guard: number;

  /** @param guard of a sink, the second writing end */
  constructor(
    readonly name: string,
    fd: number,
    child: Subprocess,
    guard = -1,
  ) {
    this.spec = { kind: "pipe", name, fd } as const;
    this.#child = child;
    this.#guard = guard;
  }

  async cancel(): Promise<void> {
    const stopped = new Set<number>();
    // In a pipeline, the death of one would be end of file for the next. While all are stopped,
    // nobody gets to see it before its own end. One that is not stopped yet may start another.
    for (let found = this.#processes(); found.length > 0;) {
      signalAll(found, "SIGSTOP");
      for (const pid of found) stopped.add(pid);
      found = this.#processes().filter((pid) => !stopped.has(pid));
    }
    signalAll([...stopped], "SIGKILL");
    await this.#child.exited;
    this.#letGo();
  }

  /** The command, all that is below it, and what it has left behind. */
  #processes(): number[] {
    const { pid, exitCode, signalCode } = this.#child;
    // It may have become a program without our mark: `exec env -i …`.
    const own = exitCode === null && signalCode === null ? [pid, ...descendants(pid)] : [];
    return [...new Set([...own, ...descendants(process.pid).filter(isEndpointProcess)])];
  }

  async settle(stop: AbortSignal): Promise<string | undefined> {
    this.#letGo();
    const stopped = new Promise<"stopped">((resolve) => {
      if (stop.aborted) resolve("stopped");
      stop.addEventListener("abort", () => resolve("stopped"), { once: true });
    });
    if ((await Promise.race([this.#child.exited, stopped])) === "stopped") {
      await this.cancel();
      return `${this.name} was ended before it was done`;
    }
    const { exitCode, signalCode } = this.#child;
    if (signalCode !== null) return `${this.name} was killed by ${signalCode}`;
    return exitCode === 0 ? undefined : `${this.name} failed with status ${exitCode}`;
  }

  remove(): void {
    this.#letGo();
  }

  #letGo(): void {
    if (this.#guard >= 0) close(this.#guard);
    this.#guard = -1;
  }
}
