/** A folder for one run, and the processes in it. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { signalAll } from "../../../src/process/proc.ts";

/** In the environment of all that a run starts, however it is related to us later. */
const MARK = "NBD_STREAMING_FAULTS";

const POLL_MS = 5;
const LIMIT_MS = 10_000;

/** A descriptor of ours, a file's path, or nothing. */
export type Stdio = number | "ignore";

export interface Streams {
  readonly stdin?: Stdio;
  readonly stdout?: Stdio;
  /** The program's descriptor 3. */
  readonly extra?: number;
}

/** `await using` ends what is left in it, and removes it. */
export class Place implements AsyncDisposable {
  static #open = new Set<Place>();

  readonly folder: string;
  readonly #mark: string;
  readonly #stack = new AsyncDisposableStack();

  constructor(scratch: string) {
    this.folder = mkdtempSync(join(scratch, "run-"));
    this.#mark = `${process.pid}-${this.folder.slice(-6)}`;
    mkdirSync(this.file("tmp"));
    Place.#open.add(this);
  }

  /** Ends all processes of all runs, at once. */
  static endAll(): void {
    for (const place of Place.#open) signalAll(place.processes(), "SIGKILL");
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  /** To be undone when the run is over, the last first, after all processes have ended. */
  defer(undo: () => void | Promise<void>): void {
    this.#stack.defer(undo);
  }

  /** Starts a process in the place, in a process group of its own. */
  start(
    cmd: readonly string[],
    stderr: string,
    { stdin, stdout, extra }: Streams = {},
  ): Subprocess {
    return Bun.spawn({
      cmd: [...cmd],
      cwd: this.folder,
      env: { ...process.env, LC_ALL: "C", TMPDIR: this.file("tmp"), [MARK]: this.#mark },
      stdio: [
        stdin ?? "ignore",
        stdout ?? "ignore",
        Bun.file(this.file(stderr)),
        ...(extra === undefined ? [] : [extra]),
      ],
      detached: true,
    });
  }

  /** Those that still run. */
  processes(): number[] {
    return readdirSync("/proc")
      .filter((pid) => this.#has(pid))
      .map(Number);
  }

  #has(pid: string): boolean {
    if (!/^[0-9]+$/.test(pid)) return false;
    try {
      // Of one that has ended, this is empty.
      return readFileSync(`/proc/${pid}/environ`, "latin1")
        .split("\0")
        .includes(`${MARK}=${this.#mark}`);
    } catch {
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is killed may be starting something just then.
    const all = () => {
      const left = this.processes();
      signalAll(left, "SIGKILL");
      return left.length === 0;
    };
    if (!(await until(all, LIMIT_MS))) throw new Error("processes of a run cannot be ended");
    await this.#stack.disposeAsync();
    rmSync(this.folder, { recursive: true, force: true });
    Place.#open.delete(this);
  }
}

/** @returns whether it has become so before so many milliseconds were over */
export async function until(condition: () => boolean, limit: number): Promise<boolean> {
  const deadline = performance.now() + limit;
  while (!condition()) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(POLL_MS);
  }
  return true;
}

/** As a shell has it: 128 + N for signal N. Undefined while it runs. */
export function statusOf({ exitCode, signalCode }: Subprocess): number | undefined {
  if (signalCode === null) return exitCode ?? undefined;
  return 128 + constants.signals[signalCode as NodeJS.Signals];
}

/** @returns whether there was such a process, or such a group if it is negative */
export function sends(pid: number, signal: NodeJS.Signals): boolean {
  // To kill(2), 0 is our own group, and -1 everybody.
  if (!Number.isInteger(pid) || pid === 0 || pid === -1) return false;
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
