/** A command with its descendants, orphans included. */
import { readlinkSync } from "node:fs";
import { Child } from "./child.ts";
import {
  descendants,
  hasMark,
  hasOpen,
  livingProcesses,
  readsPipe,
  type Relations,
  send,
  signalAll,
  startTime,
  survey,
} from "./proc.ts";

export interface ProcessTreeOptions {
  /** The command's words; the first is looked for in PATH unless it has a slash. */
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The command's descriptors, from standard input on, by their numbers in this process. */
  readonly stdio: readonly (number | "null")[];
  /** Starts a process group, which the terminal's signals do not reach. */
  readonly group?: boolean;
  /** Either end, in this process, of a pipe that only the command and its descendants read. */
  readonly pipe?: number;
  /** Files that only the command and its descendants open, as links in /proc show them. */
  readonly files?: readonly string[];
}

/** How often they are looked for again where none is found, while other processes end. */
const MAX_LOOKS = 8;
/** How often {@link ProcessTree.kill} looks for processes that were started in the meantime. */
const MAX_ROUNDS = 100;
/** Milliseconds between two looks whether all have ended. */
const POLL_INTERVAL = 10;

/** What one look at all processes finds. */
interface Look {
  readonly members: number[];
  /** Processes that had ended when their turn came, zombies too. */
  readonly ended: ReadonlySet<number>;
}

const killedOnExit = new Set<ProcessTree>();

function killAll(): void {
  for (const tree of [...killedOnExit]) tree.kill();
}

/**
 * Orphans are found by a mark in the environment, which all descendants inherit, and, for one started without an
 * environment (`env -i …`), by the pipe from this process that they read, or a file that only they have open.
 */
export class ProcessTree {
  /** The command itself. */
  readonly child: Child;
  readonly #name: string;
  readonly #mark = crypto.randomUUID();
  readonly #pipe: string | undefined;
  readonly #files: readonly string[];
  readonly #startTime: number;
  readonly #group: number | undefined;

  /**
   * Starts the command.
   *
   * @param name of the environment variable for the mark, which is added to those of outer trees
   * @throws an error with a code when the command cannot be executed: ENOENT, EACCES, EAGAIN
   */
  constructor(
    name: string,
    { cmd, env, stdio, group = false, pipe, files = [] }: ProcessTreeOptions,
  ) {
    this.#name = name;
    this.#pipe = pipe === undefined ? undefined : readlinkSync(`/proc/self/fd/${pipe}`);
    this.#files = files;
    const marks = [env[name], this.#mark].filter(Boolean).join(" ");
    this.child = new Child({
      file: fileOf(cmd[0] as string, env["PATH"]),
      argv: cmd,
      env: { ...env, [name]: marks },
      stdio,
      place: group ? "group" : "here",
    });
    this.#group = group ? this.child.pid : undefined;
    this.#startTime = startTime(this.child.pid) ?? 0;
  }

  /**
   * The process ids of all living members, the oldest first; only the command's if /proc is not readable. A process that is soon
   * another one may be missed: see {@link search}.
   *
   * @param found called for each of those that are known by themselves, at once
   */
  members(found: (pid: number) => void = () => {}): number[] {
    return this.#look(found).members;
  }

  /**
   * The same, and again where there seem to be none, until it is sure: a process that has ended during the search
   * may have started one that was not listed yet.
   */
  search(): number[] {
    let before: Look | undefined;
    for (let left = MAX_LOOKS; ; left--) {
      const look = this.#look();
      if (look.members.length > 0 || left === 0 || this.#isSure(look, before)) return look.members;
      before = look;
    }
  }

  /** True when nobody can have been missed. Zombies may stay for long where nobody reaps them. */
  #isSure({ ended }: Look, before: Look | undefined): boolean {
    return [...ended].every((pid) => pid === this.child.pid || before?.ended.has(pid));
  }

  #look(found: (pid: number) => void = () => {}): Look {
    const { pid, running } = this.child;
    const roots: number[] = [];
    try {
      const { living, ended } = survey((one, relations) => {
        if (!((running && one === pid) || this.#isMember(one, relations))) return;
        roots.push(one);
        found(one);
      });
      roots.reverse();
      return { members: [...roots, ...descendants(roots, living)], ended };
    } catch {
      // No descriptor left (EMFILE), or no /proc.
      return { members: running ? [pid] : [], ended: new Set() };
    }
  }

  /**
   * Kills all members. All are stopped before one is killed: in a pipeline, the death of one would be
   * end of file for the next. The command's process group is reached even without descriptors or /proc,
   * which kill(2) does not need.
   */
  kill(): void {
    this.#signal("SIGSTOP");
    const stopped = new Set<number>();
    let news: boolean;
    const stop = (pid: number) => {
      if (stopped.has(pid)) return;
      // One that has ended since it was seen may have started another.
      news = true;
      if (send(pid, "SIGSTOP")) stopped.add(pid);
    };
    let before: Look | undefined;
    for (let [round, idle] = [0, 0]; round < MAX_ROUNDS && idle < MAX_LOOKS; round++) {
      news = false;
      const look = this.#look(stop);
      for (const pid of look.members) stop(pid);
      if (!news && this.#isSure(look, before)) break;
      idle = news ? 0 : idle + 1;
      before = look;
    }
    signalAll([...stopped], "SIGKILL");
    this.#signal("SIGKILL");
  }

  /**
   * Kills all members when the program ends by process.exit() or an uncaught error, but not when a
   * signal ends it.
   *
   * @returns cancels that
   */
  killOnExit(): () => void {
    // One listener for all trees: Node warns of more than ten.
    if (killedOnExit.size === 0) process.on("exit", killAll);
    killedOnExit.add(this);
    return () => {
      if (killedOnExit.delete(this) && killedOnExit.size === 0) process.off("exit", killAll);
    };
  }

  /** True when a process in the command's group is stopped; false if /proc is not readable. */
  get stopped(): boolean {
    try {
      return [...livingProcesses().values()].some(({ group, stopped }) => {
        return stopped && group === this.#group;
      });
    } catch {
      return false;
    }
  }

  /**
   * Continues the stopped processes of the command's group. Each gets one SIGCONT: a second one could come after
   * Ctrl-Z, and discard its SIGTSTP (signal(7)).
   */
  resume(): void {
    if (this.#group !== undefined && this.child.ownsPid) send(-this.#group, "SIGCONT");
  }

  /**
   * Waits until all members have ended.
   *
   * @param limit milliseconds
   * @returns false when some still run then
   */
  async waitForExit(limit: number): Promise<boolean> {
    const deadline = performance.now() + limit;
    while (!this.#haveEnded()) {
      if (performance.now() >= deadline) return false;
      await Bun.sleep(POLL_INTERVAL);
    }
    return true;
  }

  #haveEnded(): boolean {
    this.child.poll();
    return !this.child.running && this.search().length === 0;
  }

  /** No signal will be sent any more: the command may be reaped. */
  release(): void {
    this.child.release();
  }

  #signal(signal: NodeJS.Signals): void {
    // Once the command is reaped, its ids may be another process's.
    if (!this.child.ownsPid) return;
    if (this.#group !== undefined) send(-this.#group, signal);
    send(this.child.pid, signal);
  }

  #isMember(pid: number, { group, started }: Relations): boolean {
    if (pid === process.pid) return false;
    if (this.#group === group && this.child.ownsPid) return true;
    // A process older than the command is none, though another program may have passed the pipe or the file to it.
    if (started < this.#startTime) return false;
    if (hasMark(pid, this.#name, this.#mark)) return true;
    const pipe = this.#pipe;
    return (
      (pipe !== undefined && readsPipe(pid, pipe)) || this.#files.some((file) => hasOpen(pid, file))
    );
  }
}

/** The file that execvp(3) would execute for a command's first word. @throws an error with the code ENOENT */
function fileOf(word: string, path: string | undefined): string {
  if (word.includes("/")) return word;
  const file = Bun.which(word, { PATH: path ?? DEFAULT_PATH });
  if (file !== null) return file;
  throw Object.assign(new Error(`${word}: not found`), { code: "ENOENT" });
}

/** The search path of execvp(3) without PATH. */
const DEFAULT_PATH = "/bin:/usr/bin";
