/** A stream that is read: the program, its source, and clients that do what they should not. */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pseudoRandom } from "./images.ts";
import type { Ended } from "./program.ts";
import { openDescriptors, processorTicks } from "./proc.ts";
import { ReadClient } from "./read-client.ts";
import { ERROR, type FailingEnd, BaseTrial, type BaseTrialOptions } from "./base-trial.ts";
import { openSource, type SourceChoice, type TestSource } from "./sources.ts";

/** What sources give; no part of it is equal to another. */
export const DATA = pseudoRandom(8 * 1024 * 1024);

/** How clients read: which replies they take, and how many bytes they ask for at a time. */
export const FORMS = [
  { form: "small simple replies", structured: false, piece: 4 * 1024 },
  { form: "large simple replies", structured: false, piece: 1024 * 1024 },
  { form: "small structured replies", structured: true, piece: 4 * 1024 },
  { form: "large structured replies", structured: true, piece: 1024 * 1024 },
];

/** Two of them, for what has little to do with it. */
export const FEW_FORMS = [FORMS[0], FORMS[3]] as typeof FORMS;

/** How to start read.child.ts; its arguments are a socket and where it stops. */
export const CHILD = [process.execPath, join(import.meta.dir, "read.child.ts")];

/** Ticks of CPU time, of 10 ms, that a second of waiting may take. */
const IDLE = 10;

export interface ReadTrialOptions extends BaseTrialOptions {
  /** Has the program make a pid file, which is not to be left behind. */
  readonly pidFile?: boolean;
}

/** A stream that is read. */
export class ReadTrial extends BaseTrial {
  #source: TestSource | undefined;

  get source(): TestSource {
    return this.#source as TestSource;
  }

  /** Starts `serve`, and waits until it listens. */
  static async serve(choice: SourceChoice, options: ReadTrialOptions = {}): Promise<ReadTrial> {
    const trial = new ReadTrial();
    try {
      await trial.#start("serve", choice, options, ["-U", trial.socket]);
      await trial.program.saying(/listening on/);
      return trial;
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts `run` with a captive command. */
  static async run(
    choice: SourceChoice,
    captive: readonly string[],
    options: ReadTrialOptions = {},
  ): Promise<ReadTrial> {
    const trial = new ReadTrial();
    await trial.#start("run", choice, options, ["--", ...captive]);
    return trial;
  }

  async #start(
    verb: string,
    choice: SourceChoice,
    options: ReadTrialOptions,
    last: readonly string[],
  ): Promise<void> {
    const { args = [], pidFile = false } = options;
    writeFileSync(this.file("data"), DATA);
    const source = this.stack.use(await openSource(choice, this.own, this.place));
    this.#source = source;
    const words = [verb, `read=${source.target}`, "-v", ...args];
    if (pidFile) words.push(`--pidfile=${this.ownFile("pid")}`);
    this.launch([...words, ...last], options, source.redirection);
  }

  /** A client in the transmission phase that `using` hangs up. */
  reader(structured = false): Promise<ReadClient> {
    return ReadClient.transmission(this.socket, structured);
  }

  /** Resolves when the stream thread has been at everything that was sent before. */
  async settled(): Promise<void> {
    using other = await this.client();
    // NBD_CMD_FLUSH was not negotiated.
    expect(await other.flush()).toBe(ERROR.EINVAL);
    other.disconnect();
  }

  /** Waits for the end, with a failure as expected and nothing left behind. */
  async fails(end: FailingEnd): Promise<void> {
    const before = this.program.stderr;
    await this.failsWith(end);
    const last = this.program.stderr.trimEnd().split("\n").at(-1);
    expect(last, before).toMatch(/^nbd-streaming: error: .*(truncated|cannot run)/);
  }

  /** Waits for a good end. @param bytes that have gone by */
  async completes(bytes: number): Promise<Ended> {
    const ended = await this.program.ended();
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stderr).toContain(`nbd-streaming: ${bytes} bytes (`);
    await this.leavesNothing();
    return ended;
  }

  /** Descriptors that the program has open. */
  get descriptors(): number {
    return openDescriptors(this.program.process.pid);
  }

  /** Checks that the program takes no CPU time in a second in which it has nothing to do. */
  async idles(): Promise<void> {
    const { pid } = this.program.process;
    const before = processorTicks(pid);
    // Slow on purpose: what is looked for is work that is done again and again.
    await Bun.sleep(1000);
    expect(processorTicks(pid) - before).toBeLessThan(IDLE);
  }
}
