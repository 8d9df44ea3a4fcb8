/** A command, the processes below it, and those that it has left behind. */
import { randomUUID } from "node:crypto";
import { readlinkSync } from "node:fs";
import { Child, send } from "./child.ts";
import {
  descendants,
  hasMark,
  livingProcesses,
  readsPipe,
  type Relations,
  signalAll,
  startTime,
} from "./proc.ts";

export interface ProcessTreeOptions {
  /** Its words; the first is looked for in PATH unless it has a slash. */
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Its descriptors, from standard input on, by their numbers here. */
  readonly stdio: readonly (number | "null")[];
  /** It gets a process group of its own, which the terminal's signals do not reach. */
  readonly group?: boolean;
  /** One of its descriptors is a pipe that nobody else reads: the number here of either end. */
  readonly pipe?: number;
}

/** Rounds in which processes are looked for that others have started in the meantime. */
const ROUNDS = 100;
/** Milliseconds between two looks whether all have ended. */
const LOOKING = 10;

/**
 * Orphans are told by a mark in their environment, which all inherit that the command starts, and by
 * the pipe from us that they read, which one without an environment (`env -i …`) may have, too.
 */
export class ProcessTree {
  /** The command itself. */
  readonly leader: Child;
  readonly #name: string;
  readonly #mark = randomUUID();
  readonly #pipe: string | undefined;
  readonly #born: number;
  readonly #group: number | undefined;

  /**
   * Starts the command.
   *
   * @param name of the variable that has the mark, behind those of the families that we are in
   * @throws an error with a code when the command cannot be executed: ENOENT, EACCES, EAGAIN
   */
  constructor(name: string, { cmd, env, stdio, group = false, pipe }: ProcessTreeOptions) {
    this.#name = name;
    this.#pipe = pipe === undefined ? undefined : readlinkSync(`/proc/self/fd/${pipe}`);
    const marks = [env[name], this.#mark].filter(Boolean).join(" ");
    this.leader = new Child({
      file: fileOf(cmd[0] as string, env["PATH"]),
      argv: cmd,
      env: { ...env, [name]: marks },
      stdio,
      place: group ? "group" : "here",
    });
    this.#group = group ? this.leader.pid : undefined;
    this.#born = startTime(this.leader.pid) ?? 0;
  }

  /** The process ids of all that live; of the command alone where /proc does not tell. */
  members(): number[] {
    const { pid, running } = this.leader;
    try {
      const living = livingProcesses();
      const roots = [...living]
        .filter(([one, relations]) => (running && one === pid) || this.#isKin(one, relations))
        .map(([one]) => one);
      return [...roots, ...descendants(roots, living)];
    } catch {
      // No descriptor is left to look into it, or there is no /proc.
      return running ? [pid] : [];
    }
  }

  /**
   * Kills all of them, none of which gets to see the death of another one: in a pipeline that would
   * be end of file for the next. So all are stopped before one is killed. What has not left the group
   * of the command is reached even if nothing can be found out about it: kill(2) needs neither
   * descriptors nor /proc.
   */
  kill(): void {
    this.#signal("SIGSTOP");
    const stopped = new Set<number>();
    // One that is not stopped yet may start another.
    for (let round = 0; round < ROUNDS; round++) {
      const found = this.members().filter((pid) => !stopped.has(pid));
      if (found.length === 0) break;
      signalAll(found, "SIGSTOP");
      for (const pid of found) stopped.add(pid);
    }
    signalAll([...stopped], "SIGKILL");
    this.#signal("SIGKILL");
  }

  /** True when something in the group of the command is stopped, as far as /proc tells. */
  get stopped(): boolean {
    try {
      return [...livingProcesses().values()].some(({ group, stopped }) => {
        return stopped && group === this.#group;
      });
    } catch {
      return false;
    }
  }

  /** Continues what is stopped in the group of the command. */
  resume(): void {
    this.#signal("SIGCONT");
  }

  /**
   * Waits until all of them have ended.
   *
   * @param limit milliseconds
   * @returns false when some have not by then
   */
  async gone(limit: number): Promise<boolean> {
    const deadline = performance.now() + limit;
    while (!this.#isGone()) {
      if (performance.now() >= deadline) return false;
      await Bun.sleep(LOOKING);
    }
    return true;
  }

  #isGone(): boolean {
    this.leader.look();
    return !this.leader.running && this.members().length === 0;
  }

  /** Nothing more is to be done to them. */
  release(): void {
    this.leader.release();
  }

  /** Not to a number that may be somebody else's by now. */
  #signal(signal: NodeJS.Signals): void {
    if (!this.leader.held) return;
    if (this.#group !== undefined) send(-this.#group, signal);
    send(this.leader.pid, signal);
  }

  #isKin(pid: number, { group }: Relations): boolean {
    if (pid === process.pid) return false;
    if (this.#group === group && this.leader.held) return true;
    if (hasMark(pid, this.#name, this.#mark)) return true;
    // One that is older is a service that has been passed the pipe for somebody else.
    const pipe = this.#pipe;
    return pipe !== undefined && (startTime(pid) ?? 0) >= this.#born && readsPipe(pid, pipe);
  }
}

/** What a command's first word leads to, as execvp(3) finds it. @throws an error with the code ENOENT */
function fileOf(word: string, path: string | undefined): string {
  if (word.includes("/")) return word;
  const file = Bun.which(word, { PATH: path ?? DEFAULT_PATH });
  if (file !== null) return file;
  throw Object.assign(new Error(`${word}: not found`), { code: "ENOENT" });
}

/** Where execvp(3) looks without PATH. */
const DEFAULT_PATH = "/bin:/usr/bin";
