/** `pipe=exec:COMMAND`: a shell command that takes the stream on its standard input. */
import type { Subprocess } from "bun";
import { close, dup } from "../../ffi/fd.ts";
import { growPipe, pipe } from "../../ffi/pipe.ts";
import { adoptOrphans } from "../../ffi/process.ts";
import { descendants, hasMark, signalAll } from "../process/descendants.ts";
import type { Destination } from "./destination.ts";
import { UnusableError } from "./unusable.ts";

/** In the environment of the command and of all that it starts. */
const MARK = "NBD_STREAMING_SINK";

/** True for a process that belongs to a sink's command of this program. */
export function isSinkProcess(pid: number): boolean {
  return hasMark(pid, `${MARK}=${process.pid}`);
}

/**
 * Starts the command.
 *
 * The main thread keeps a writing end of its own beside the stream thread's: as long as it is open,
 * the command cannot see end of file, and only {@link Destination.settle} closes it first.
 *
 * @param size the stream's length in bytes where it is known: NBD_STREAMING_SIZE for the command
 * @throws UnusableError when there is no shell
 */
export function startCommand(command: string, size: bigint | undefined): Destination {
  // Not that of another stream, in whose command this program may be.
  const { NBD_STREAMING_SIZE: _, ...environment } = process.env;
  const ends = pipe();
  growPipe(ends.write);
  const guard = dup(ends.write);
  let child: Subprocess;
  try {
    child = Bun.spawn({
      cmd: ["/bin/sh", "-c", command],
      env: {
        ...environment,
        [MARK]: String(process.pid),
        ...(size === undefined ? {} : { NBD_STREAMING_SIZE: String(size) }),
      },
      stdio: [ends.read, "inherit", "inherit"],
    });
  } catch (error) {
    for (const fd of [ends.read, ends.write, guard]) close(fd);
    throw new UnusableError(
      `it cannot be started: ${(error as Error).message}`,
      "is there a shell?",
    );
  }
  close(ends.read);
  adoptOrphans();
  return new CommandDestination(`exec:${command}`, ends.write, guard, child);
}

class CommandDestination implements Destination {
  readonly spec;
  #guard: number;
  readonly #child: Subprocess;

  constructor(
    readonly name: string,
    fd: number,
    guard: number,
    child: Subprocess,
  ) {
    this.spec = { kind: "pipe", name, fd } as const;
    this.#guard = guard;
    this.#child = child;
  }

  async cancel(): Promise<void> {
    const pids = descendants(process.pid).filter(isSinkProcess);
    // In a pipeline, the death of one would be end of file for the next. While all are stopped,
    // nobody gets to see it before its own end.
    signalAll(pids, "SIGSTOP");
    signalAll(pids, "SIGKILL");
    await this.#child.exited;
    this.#letGo();
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
