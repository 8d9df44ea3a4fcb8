/** A command, the processes below it, and those that it has left behind. */
import type { Subprocess } from "bun";
import { randomUUID } from "node:crypto";
import { descendants, hasMark, processes } from "./descendants.ts";

export interface FamilyOptions {
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Standard input, output and error. */
  readonly stdio: readonly [Stdio, Stdio, Stdio];
}

type Stdio = "inherit" | "ignore" | number;

/** Orphans are told by a mark in their environment, which all inherit that the command starts. */
export class Family {
  /** The command itself. */
  readonly leader: Subprocess;
  readonly #mark: string;

  /**
   * Starts the command.
   *
   * @param name of the variable that is the mark
   * @throws what Bun.spawn does when the command cannot be executed
   */
  constructor(name: string, { cmd, env, stdio }: FamilyOptions) {
    const id = randomUUID();
    this.#mark = `${name}=${id}`;
    this.leader = Bun.spawn({ cmd: [...cmd], env: { ...env, [name]: id }, stdio: [...stdio] });
  }

  /** The process ids of all that live. */
  members(): number[] {
    const { pid, exitCode, signalCode } = this.leader;
    // These may be without the mark: `env -i …`.
    const below = exitCode === null && signalCode === null ? [pid, ...descendants(pid)] : [];
    return [...new Set([...below, ...processes().filter((one) => hasMark(one, this.#mark))])];
  }
}
