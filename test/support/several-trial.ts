/** Several streams in one server: the program, and what is at the other ends of its streams. */
import { expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { BaseTrial, type BaseTrialOptions } from "./base-trial.ts";
import { RawClient } from "./nbd-client.ts";
import type { Ended } from "./program.ts";

/** What the program gets after `serve` or `run`; files are those of the trial. */
export type Words = (trial: SeveralTrial) => readonly string[];

/** A trial of several streams. */
export class SeveralTrial extends BaseTrial {
  /** Starts `serve`, and waits until it listens. */
  static async serve(words: Words, options: BaseTrialOptions = {}): Promise<SeveralTrial> {
    const trial = new SeveralTrial();
    try {
      const listen = options.listen ?? ["-U", trial.socket];
      trial.launch(["serve", ...words(trial), ...listen], options, "");
      await trial.program.saying(/listening on/);
      return trial;
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts the program with these words alone. */
  static started(words: Words, options: BaseTrialOptions = {}): SeveralTrial {
    const trial = new SeveralTrial();
    trial.launch(words(trial), options, "");
    return trial;
  }

  /** A client of one of the streams, in the transmission phase; `using` hangs it up. */
  clientOf(name: string): Promise<RawClient> {
    return RawClient.transmission(this.socket, name);
  }

  uri(name = ""): string {
    return `nbd+unix:///${encodeURIComponent(name)}?socket=${this.socket}`;
  }

  /** What a stream has left in a file. */
  output(name: string): Buffer {
    return existsSync(this.file(name)) ? readFileSync(this.file(name)) : Buffer.alloc(0);
  }

  /** True when the command of {@link KEPT} has seen the end of its input. */
  isWhole(name: string): boolean {
    return existsSync(this.file(`${name}.whole`));
  }

  /** Waits for the end, with nothing left behind. */
  async endsWith(status: number): Promise<Ended> {
    const ended = await this.program.ended();
    expect(ended.status, ended.stderr).toBe(status);
    expect(ended.stderr).not.toContain("internal error");
    await this.leavesNothing();
    return ended;
  }
}

/** A sink that keeps the stream in a file of its name, and says when it has taken it for whole. */
export const KEPT = `exec:cat > "$NBD_STREAMING_EXPORT"; echo > "$NBD_STREAMING_EXPORT.whole"`;

/** Writes all of it, and disconnects. */
export async function writeWhole(client: RawClient, data: Uint8Array, piece = 1 << 18) {
  for (let at = 0; at < data.length; at += piece) {
    expect(await client.write(at, data.subarray(at, at + piece))).toBe(0);
  }
  client.disconnect();
}
