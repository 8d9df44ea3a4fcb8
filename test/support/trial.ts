/** A stream that is written: the program, its sink, and clients that do what they should not. */
import { expect } from "bun:test";
import type { Socket } from "node:net";
import { join } from "node:path";
import { pseudoRandom } from "./images.ts";
import type { RawClient } from "./nbd-client.ts";
import type { Ended } from "./program.ts";
import { ERROR, type FailingEnd, GATE, BaseTrial, type BaseTrialOptions } from "./base-trial.ts";
import { openSink, type SinkKind, type TestSink } from "./sinks.ts";

export { ERROR, GATE };

/** What clients write; no part of it is equal to another. */
export const DATA = pseudoRandom(8 * 1024 * 1024);

/** How to start write.child.ts; its arguments are a socket and where it stops. */
export const CHILD = [process.execPath, join(import.meta.dir, "write.child.ts")];

/** How a stream is expected to fail. */
export interface Failing extends FailingEnd {
  /** What the whole stream would have been. */
  readonly whole?: Uint8Array;
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
  /** What a Unix socket does with the program's connection, of which nothing is read before. */
  | { readonly unix: (connection: Socket) => void }
  /** The same over TCP. */
  | { readonly tcp: (connection: Socket) => void }
  /** Anything else, as it is. */
  | { readonly path: string };

export type TrialOptions = BaseTrialOptions;

/** A stream that is written. */
export class Trial extends BaseTrial {
  #sink: TestSink | undefined;

  get sink(): TestSink {
    return this.#sink as TestSink;
  }

  /** Starts `serve`, and waits until it listens and the reader is there. */
  static async serve(choice: SinkChoice, options: TrialOptions = {}): Promise<Trial> {
    const trial = new Trial();
    try {
      await trial.#start("serve", choice, options, options.listen ?? ["-U", trial.socket]);
      await trial.program.saying(/listening on/);
      await trial.sink.ready();
      return trial;
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts `serve` without an address: it is passed what it serves. */
  static async passed(choice: SinkChoice, options: TrialOptions): Promise<Trial> {
    const trial = new Trial();
    try {
      await trial.#start("serve", choice, options, []);
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
    options: TrialOptions,
    last: readonly string[],
  ): Promise<void> {
    const sink = this.stack.use(await openSink(choice, this.own, this.place));
    this.#sink = sink;
    const words = [verb, `pipe=${sink.target}`, "-v", ...(options.args ?? []), ...last];
    this.launch(words, options, sink.redirection);
  }

  /** Resolves when the stream thread has been at everything that was sent before. */
  async settled(): Promise<void> {
    using other = await this.client();
    // A file is not flushed, but it has been asked.
    expect([0, ERROR.EINVAL]).toContain(await other.flush());
    other.disconnect();
  }

  /**
   * Waits for the end, with a failure as expected and nothing left behind.
   *
   * @returns what came out
   */
  async fails({ whole = DATA, ...end }: Failing): Promise<Buffer> {
    const emitted = await this.failsWith(end);
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
}

/** Writes all of it in order. @returns the first error, or 0 */
export async function writeAll(client: RawClient, data: Uint8Array, piece = 1 << 18) {
  for (let at = 0; at < data.length; at += piece) {
    const error = await client.write(at, data.subarray(at, at + piece));
    if (error !== 0) return error;
  }
  return 0;
}
