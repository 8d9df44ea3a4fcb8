/**
 * What Trial and ReadTrial have in common. A trial is one run of the program in folders of its own, with the
 * test as its client or its signals, and ends with a look at what is left behind. It is not a fixture
 * (engine.ts: the stream thread's loop without a program), nor a scene (scenes/: one run of a block of a
 * document).
 */
import { expect } from "bun:test";
import { randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RawClient } from "./nbd-client.ts";
import { type Ended, eventually, PROGRAM, type Running, start } from "./program.ts";
import { tempFolder } from "./temp.ts";

/** A variable in the environment of the program and of all that it starts, by which they are found. */
const MARK = "NBD_STREAMING_TEST_TRIAL";

/** `NBD_E*` as clients see them. */
export const ERROR = { EPERM: 1, EIO: 5, EINVAL: 22, ENOSPC: 28, ESHUTDOWN: 108 } as const;

/** Shell words that wait for {@link BaseTrial.openGate}. */
export const GATE = "until [ -e gate ]; do sleep 0.02; done";

/** How the program is started. */
export interface BaseTrialOptions {
  readonly args?: readonly string[];
  /** Where `serve` listens, if not on its Unix socket. */
  readonly listen?: readonly string[];
  /** Shell words before the program, such as limits. */
  readonly shell?: string;
  /** The shell words that start it, if not `exec "$@"`. */
  readonly line?: string;
  /** A descriptor of the test's that it gets as its descriptor 3. */
  readonly passed?: number;
}

/** How a stream is expected to fail. */
export interface FailingEnd {
  readonly status: number;
  /** What the one line about it says. */
  readonly message: RegExp;
  /** How many bytes went by, where that is certain. */
  readonly bytes?: number | undefined;
}

/** `using` ends what is left, and removes the folder. */
export abstract class BaseTrial implements AsyncDisposable {
  protected readonly stack = new AsyncDisposableStack();
  readonly #folder = this.stack.use(tempFolder());
  /** Where the test and the stream's endpoint keep their files; the program's working directory. */
  protected readonly place = this.#folder.file("place");
  /** Where the program makes its socket and its FIFO. */
  protected readonly own = this.#folder.file("own");
  readonly #tmp = this.#folder.file("tmp");
  readonly #mark = `${MARK}=${randomUUID()}`;
  readonly socket = join(this.own, "nbd.sock");
  #program: Running | undefined;

  constructor() {
    for (const path of [this.place, this.own, this.#tmp]) mkdirSync(path);
  }

  get program(): Running {
    return this.#program as Running;
  }

  /** Starts the program with these words. @param redirection shell words behind them */
  protected launch(
    words: readonly string[],
    { shell = "", line: how = 'exec "$@"', passed }: BaseTrialOptions,
    redirection: string,
  ): void {
    const line = `${shell}${how}${redirection}`;
    const env = { TMPDIR: this.#tmp, [MARK]: this.#mark.slice(MARK.length + 1) };
    this.#program = this.stack.use(
      start(["sh", "-c", line, "sh", ...PROGRAM, ...words], { cwd: this.place, env, passed }),
    );
  }

  /** A file of the test's own. */
  file(name: string): string {
    return join(this.place, name);
  }

  /** A file that the program makes, and is to remove. */
  ownFile(name: string): string {
    return join(this.own, name);
  }

  /** A client that `using` hangs up, in the transmission phase. */
  client(): Promise<RawClient> {
    return RawClient.transmission(this.socket);
  }

  /** Makes the file that shell words of a test may wait for: see {@link GATE}. */
  openGate(): void {
    writeFileSync(this.file("gate"), "");
  }

  /** Sends a signal to a client process of `test/support`, which must be the only one. */
  async signalChild(signal: NodeJS.Signals, stderr = this.program): Promise<void> {
    const told = /client ([0-9]+) is in the/;
    await stderr.saying(told);
    process.kill(Number(told.exec(stderr.stderr)?.[1]), signal);
  }

  /** Waits for the end, with one line about why. */
  protected async failsWith({ status, message, bytes }: FailingEnd): Promise<number> {
    const ended = await this.program.ended();
    expect(ended.status, ended.stderr).toBe(status);
    const [line = "", ...others] = errorsOf(ended);
    expect(others).toEqual([]);
    expect(line).toMatch(message);
    expect(ended.stderr).not.toContain("    at ");
    const moved = Number(/ error: ([0-9]+) bytes \(/.exec(line)?.[1] ?? 0);
    if (bytes !== undefined) expect(moved).toBe(bytes);
    await this.leavesNothing();
    return moved;
  }

  /** No file, no socket, no folder, no FIFO, and no process. */
  async leavesNothing(): Promise<void> {
    expect(readdirSync(this.#tmp)).toEqual([]);
    expect(readdirSync(this.own)).toEqual([]);
    await eventually(() => this.processes().length === 0, "the program's processes to be gone");
  }

  /** The program and all that it has started, however they are related by now. */
  processes(): number[] {
    return readdirSync("/proc")
      .filter((name) => /^[0-9]+$/.test(name) && environment(name).includes(this.#mark))
      .map(Number);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has just ended.
      }
    }
    await this.stack[Symbol.asyncDispose]();
  }
}

/** What the program itself has called an error. */
function errorsOf({ stderr }: Ended): string[] {
  return stderr.split("\n").filter((line) => line.startsWith("nbd-streaming: error: "));
}

function environment(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
  } catch {
    return [];
  }
}
