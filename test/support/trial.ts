/** The program under a fault: its client, its sink, and all that it may leave behind. */
import { expect } from "bun:test";
import { randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pseudoRandom } from "./images.ts";
import { RawClient } from "./nbd-client.ts";
import { type Ended, eventually, PROGRAM, type Running, start } from "./program.ts";
import { openSink, type SinkKind, type TestSink } from "./sinks.ts";
import { tempFolder } from "./temp.ts";

/** Far more than the program takes, far less than anything that waits for somebody. */
export const SOON = 5_000;

/** In the environment of the program and of all that it starts. */
const MARK = "NBD_STREAMING_TEST_TRIAL";

/** What clients write: nothing of it is like another part. */
export const DATA = pseudoRandom(8 * 1024 * 1024);

/** `NBD_E*` as clients see them. */
export const ERROR = { EIO: 5, ENOSPC: 28, ESHUTDOWN: 108 } as const;

/** Shell words that wait for {@link Trial.openGate}. */
export const GATE = "until [ -e gate ]; do sleep 0.02; done";

/** How to start client.child.ts; its arguments are a socket and a stage. */
export const CHILD = [process.execPath, join(import.meta.dir, "client.child.ts")];

/** How a stream is expected to fail. */
export interface Failing {
  readonly status: number;
  /** What the one line about it says. */
  readonly message: RegExp;
  /** What the whole stream would have been. */
  readonly whole?: Uint8Array;
  /** How many bytes went out, where that is certain. */
  readonly bytes?: number;
}

/** A sink by its kind, or one of a test's own. */
export type SinkChoice =
  | SinkKind
  /** A command as the sink; by convention it writes to `part`, and then makes `done`. */
  | { readonly exec: string }
  /** Shell words that read the FIFO; undefined is nobody. */
  | { readonly fifo: string | undefined }
  /** A Unix socket whose reader leaves after so many bytes. */
  | { readonly socket: number }
  /** Anything else, as it is. */
  | { readonly path: string };

export interface TrialOptions {
  readonly args?: readonly string[];
  /** Shell words before the program, such as limits. */
  readonly shell?: string;
}

/** `using` ends what is left, and removes the folder. */
export class Trial implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #folder = this.#stack.use(tempFolder());
  /** Where the test and the sink keep their files; the program's working directory. */
  readonly #place = this.#folder.file("place");
  /** Where the program makes its socket and its FIFO. */
  readonly #own = this.#folder.file("own");
  readonly #tmp = this.#folder.file("tmp");
  readonly #mark = `${MARK}=${randomUUID()}`;
  readonly socket = join(this.#own, "nbd.sock");
  #sink: TestSink | undefined;
  #program: Running | undefined;

  get sink(): TestSink {
    return this.#sink as TestSink;
  }

  get program(): Running {
    return this.#program as Running;
  }

  /** Starts `serve`, and waits until it listens and the reader is there. */
  static async serve(choice: SinkChoice, options: TrialOptions = {}): Promise<Trial> {
    const trial = new Trial();
    try {
      await trial.#start("serve", choice, options, ["-U", trial.socket]);
      await trial.program.saying(/listening on/);
      await trial.sink.ready();
      return trial;
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts `run` with a captive command. */
  static async run(
    choice: SinkChoice,
    captive: readonly string[],
    options: TrialOptions = {},
  ): Promise<Trial> {
    const trial = new Trial();
    await trial.#start("run", choice, options, ["--", ...captive]);
    return trial;
  }

  async #start(
    verb: string,
    choice: SinkChoice,
    { args = [], shell = "" }: TrialOptions,
    last: readonly string[],
  ): Promise<void> {
    for (const path of [this.#place, this.#own, this.#tmp]) mkdirSync(path);
    const sink = this.#stack.use(await openSink(choice, this.#own, this.#place));
    const words = [...PROGRAM, verb, `pipe=${sink.target}`, "-v", ...args, ...last];
    const line = `${shell}exec "$@"${sink.redirection}`;
    const env = { TMPDIR: this.#tmp, [MARK]: this.#mark.slice(MARK.length + 1) };
    this.#sink = sink;
    this.#program = this.#stack.use(
      start(["sh", "-c", line, "sh", ...words], { cwd: this.#place, env }),
    );
  }

  /** A file of the test's own. */
  file(name: string): string {
    return join(this.#place, name);
  }

  /** A client that `using` hangs up, in the transmission phase. */
  client(): Promise<RawClient> {
    return RawClient.transmission(this.socket);
  }

  /** Makes the file that shell words of a test may wait for: see {@link GATE}. */
  openGate(): void {
    writeFileSync(this.file("gate"), "");
  }

  /** Sends a signal to a client.child.ts, which must be the only one. */
  async signalChild(signal: NodeJS.Signals, stderr = this.program): Promise<void> {
    const told = /client ([0-9]+) is in the/;
    await stderr.saying(told);
    process.kill(Number(told.exec(stderr.stderr)?.[1]), signal);
  }

  /** Resolves when the stream thread has been at everything that was sent before. */
  async settled(): Promise<void> {
    using other = await this.client();
    expect(await other.flush()).toBe(0);
    other.disconnect();
  }

  /**
   * Waits for the end that must come soon, with a failure as expected and nothing left behind.
   *
   * @returns what came out
   */
  async fails({ status, message, whole = DATA, bytes }: Failing): Promise<Buffer> {
    const since = performance.now();
    const ended = await this.program.ended();
    expect(performance.now() - since).toBeLessThan(SOON);
    expect(ended.status, ended.stderr).toBe(status);
    const [line = "", ...others] = errorsOf(ended);
    expect(others).toEqual([]);
    expect(line).toMatch(message);
    expect(ended.stderr).not.toContain("    at ");
    const emitted = Number(/ error: ([0-9]+) bytes \(/.exec(line)?.[1] ?? 0);
    if (bytes !== undefined) expect(emitted).toBe(bytes);
    await this.leavesNothing();
    const output = await this.sink.output();
    expect(output.length).toBeLessThanOrEqual(emitted);
    expect(output.equals(whole.subarray(0, output.length))).toBeTrue();
    expect(this.sink.committed, "a truncated stream looks whole").toBeFalse();
    return output;
  }

  /** Waits for a complete stream of exactly this. */
  async completes(whole: Uint8Array): Promise<Ended> {
    const ended = await this.program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    const output = await this.sink.output();
    expect(output.length).toBe(whole.length);
    expect(output.equals(whole)).toBeTrue();
    await this.leavesNothing();
    return ended;
  }

  /** No file, no socket, no folder, no FIFO, and no process. */
  async leavesNothing(): Promise<void> {
    expect(readdirSync(this.#tmp)).toEqual([]);
    expect(readdirSync(this.#own)).toEqual([]);
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
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** Writes all of it in order. @returns the first error, or 0 */
export async function writeAll(client: RawClient, data: Uint8Array, piece = 1 << 18) {
  for (let at = 0; at < data.length; at += piece) {
    const error = await client.write(at, data.subarray(at, at + piece));
    if (error !== 0) return error;
  }
  return 0;
}

/** What the program itself has called an error. */
export function errorsOf({ stderr }: Ended): string[] {
  return stderr.split("\n").filter((line) => line.startsWith("nbd-streaming: error: "));
}

function environment(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
  } catch {
    return [];
  }
}
