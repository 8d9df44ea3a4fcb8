/** Runs of the program that must fail in an orderly way. */
import { expect } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../support/program.ts";
import { tempFolder } from "../support/temp.ts";

/** A folder to run the program in, with one for its temporary files beside it. */
export class Place implements Disposable {
  readonly #folder = tempFolder();
  readonly path = this.#folder.file("here");
  readonly #temporary = this.#folder.file("tmp");

  constructor() {
    mkdirSync(this.path);
    mkdirSync(this.#temporary);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /**
   * Runs the program and asserts that it says one line on standard error, nothing on standard
   * output, and leaves every file as it was.
   *
   * @returns that line, without its beginning
   */
  async refusal(
    args: readonly string[],
    status: number,
    env: Record<string, string> = {},
  ): Promise<string> {
    const before = this.#contents();
    const ended = await runProgram(args, {
      cwd: this.path,
      env: { ...env, TMPDIR: this.#temporary },
    });
    expect(ended).toEqual({
      status,
      stdout: "",
      stderr: expect.stringMatching(/^nbd-streaming: error: [^\n]+\n$/) as never,
    });
    expect(ended.stderr).not.toMatch(/\bat .*\.ts:[0-9]/);
    expect(ended.stderr).not.toContain("internal error");
    expect(this.#contents()).toEqual(before);
    return ended.stderr.slice("nbd-streaming: error: ".length, -1);
  }

  /** All files by path, with what they are. */
  #contents(): Map<string, string> {
    const found = new Map<string, string>();
    for (const name of readdirSync(this.#folder.path, { recursive: true }) as string[]) {
      const path = this.#folder.file(name);
      const stats = lstatSync(path);
      const contents = stats.isFile() ? readFileSync(path, "latin1") : "";
      found.set(name, `${stats.ino} ${stats.mode} ${contents}`);
    }
    return found;
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}
