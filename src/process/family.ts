/** A command, the processes below it, and those that it has left behind. */
import type { Subprocess } from "bun";
import { randomUUID } from "node:crypto";
import { readlinkSync } from "node:fs";
import { descendants, hasMark, processes, readsPipe, startTime } from "./descendants.ts";

export interface FamilyOptions {
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Standard input, output and error. */
  readonly stdio: readonly [Stdio, Stdio, Stdio];
  /** One of its descriptors is a pipe that nobody else reads: the number here of either end. */
  readonly pipe?: number;
}

type Stdio = "inherit" | "ignore" | number;

/**
 * Orphans are told by a mark in their environment, which all inherit that the command starts, and by
 * the pipe from us that they read, which one without an environment (`env -i …`) may have, too.
 */
export class Family {
  /** The command itself. */
  readonly leader: Subprocess;
  readonly #name: string;
  readonly #mark = randomUUID();
  readonly #pipe: string | undefined;
  readonly #born: number;

  /**
   * Starts the command.
   *
   * @param name of the variable that has the mark, behind those of the families that we are in
   * @throws what Bun.spawn does when the command cannot be executed
   */
  constructor(name: string, { cmd, env, stdio, pipe }: FamilyOptions) {
    this.#name = name;
    this.#pipe = pipe === undefined ? undefined : readlinkSync(`/proc/self/fd/${pipe}`);
    const marks = [env[name], this.#mark].filter(Boolean).join(" ");
    this.leader = Bun.spawn({ cmd: [...cmd], env: { ...env, [name]: marks }, stdio: [...stdio] });
    this.#born = startTime(this.leader.pid) ?? 0;
  }

  /** The process ids of all that live. */
  members(): number[] {
    const { pid, exitCode, signalCode } = this.leader;
    const lives = exitCode === null && signalCode === null;
    const roots = processes().filter((one) => (lives && one === pid) || this.#isKin(one));
    return [...roots, ...descendants(...roots)];
  }

  #isKin(pid: number): boolean {
    if (pid === process.pid) return false;
    if (hasMark(pid, this.#name, this.#mark)) return true;
    // One that is older is a service that has been passed the pipe for somebody else.
    const pipe = this.#pipe;
    return pipe !== undefined && (startTime(pid) ?? 0) >= this.#born && readsPipe(pid, pipe);
  }
}
