/** An interactive shell in a terminal, with job control, that a test types at. */
import { readFileSync, readlinkSync } from "node:fs";
import { constants } from "node:os";
import { bounded, eventually, PROGRAM } from "./program.ts";

/** Undefined where these tests can run, else why not. */
export const noJobShell = Bun.which("bash") === null ? "there is no bash" : undefined;

/** Keys with an effect of their own. */
export const CTRL_C = "\x03";
export const CTRL_Z = "\x1a";

/** What a program does that asks for a password, in shell words: the terminal is its descriptor 4. */
export const ASK_PASSWORD =
  'exec 4<>/dev/tty; stty -echo <&4; printf "password: " >&4; read -r word <&4; stty echo <&4; echo >&4; echo "$word" > word';

/** `using` ends the shell. */
export class JobShell implements AsyncDisposable {
  #shown = "";
  #at = 0;
  readonly #child;

  /** @param cwd where it is */
  constructor(cwd: string) {
    this.#child = Bun.spawn(["bash", "--norc", "--noprofile", "-i"], {
      cwd,
      env: { ...process.env, TERM: "dumb", PS1: "$ ", HISTFILE: "" },
      terminal: {
        cols: 1000,
        rows: 50,
        data: (_, chunk) => (this.#shown += Buffer.from(chunk).toString("latin1")),
      },
    });
  }

  type(text: string): void {
    this.#child.terminal?.write(text);
  }

  /** Types a command line that runs the program; {@link status} tells how it has ended. */
  run(words: string): void {
    this.type(`${PROGRAM.join(" ")} ${words}; echo status=$?\n`);
  }

  /** The same in the background. */
  runInBackground(words: string): void {
    this.type(`{ ${PROGRAM.join(" ")} ${words}; echo status=$?; } &\n`);
  }

  /** Waits until it takes the next line: what is typed before that may get lost. */
  async ready(): Promise<void> {
    await this.showing(/\$ $/);
  }

  /** Puts what is stopped or in the background into the foreground. @param told its status is not yet told */
  async foreground(told = true): Promise<void> {
    this.type(told ? "fg; echo status=$?\n" : "fg\n");
    await this.showing(/(?:^|\$ |\n)fg\b/);
  }

  /** Waits until the terminal is with the command of `exec:`. @param word one of its command line */
  async lending(word = "/bin/sh"): Promise<void> {
    const isLent = () => this.#foreground.split("\0").includes(word);
    await eventually(isLent, "the terminal to be lent");
  }

  /** Waits until the terminal does not show what is typed, as it is while somebody asks for a password. */
  async hiding(): Promise<void> {
    const terminal = readlinkSync(`/proc/${this.#child.pid}/fd/0`);
    const isHidden = () =>
      / -echo\b/.test(Bun.spawnSync(["stty", "-F", terminal, "-a"]).stdout.toString());
    await eventually(isHidden, "what is typed to be hidden");
  }

  /** Waits until the terminal is with the program again. */
  async returned(): Promise<void> {
    const begin = `${PROGRAM.join("\0")}\0`;
    await eventually(() => this.#foreground.startsWith(begin), "the terminal to be taken back");
  }

  /** The command line of the leader of the process group in the foreground. */
  get #foreground(): string {
    try {
      const stat = readFileSync(`/proc/${this.#child.pid}/stat`, "latin1");
      // Behind the name: state, ppid, pgrp, session, tty_nr, tpgid.
      const group = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[5];
      return readFileSync(`/proc/${group}/cmdline`, "latin1");
    } catch {
      return "";
    }
  }

  /** Waits until it shows something that it has not shown when this was called last. */
  async showing(pattern: RegExp): Promise<RegExpExecArray> {
    let found: RegExpExecArray | null = null;
    await eventually(
      () => (found = pattern.exec(this.#shown.slice(this.#at))) !== null,
      `${pattern}`,
    ).catch((error) => {
      throw new Error(`${(error as Error).message} in ${JSON.stringify(this.#shown)}`);
    });
    const { index, 0: text } = found as unknown as RegExpExecArray;
    this.#at += index + text.length;
    return found as unknown as RegExpExecArray;
  }

  /** Waits for the end of a program. @returns its exit status */
  async status(): Promise<number> {
    return Number((await this.showing(/status=([0-9]+)\r?\n/))[1]);
  }

  /** Whether the terminal shows what is typed. */
  async echoes(): Promise<boolean> {
    this.type("stty -a | grep -o -- '-\\?echo\\b'; echo asked\n");
    return (await this.showing(/(-?)echo\r?\nasked\r?\n/))[1] === "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await bounded(this.#child.exited, "the shell to end");
    this.#child.terminal?.close();
  }
}

/** The status of a job that a signal from the terminal has ended. */
export const INTERRUPTED = 128 + constants.signals.SIGINT;
