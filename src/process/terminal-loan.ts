/** Lending the terminal to a command that is in the background of it, for as long as it asks something. */
import { close } from "../../ffi/fd.ts";
import {
  foregroundGroup,
  openTerminal,
  ownGroup,
  setForegroundGroup,
  setTerminal,
  type TerminalSettings,
  terminalSettings,
} from "../../ffi/terminal.ts";
import { send } from "./child.ts";
import type { ProcessTree } from "./process-tree.ts";

/** Milliseconds between two looks at the command and the terminal. */
const LOOKING = 100;
/** Looks at a question that seems to be answered, after which it is: it may not have been asked yet. */
const ANSWERED_LOOKS = 3;
/** Milliseconds after which we are stopped if we are to be, or have been continued. */
const STOPPING = 300;
/** Looks at a command that has nothing to ask, after which it is to be stopped before there are more. */
const QUIET_LOOKS = 20;

/**
 * The terminal's signals are to reach us alone, and so a command has a process group of its own, in the
 * background. What asks for a password there is stopped: it gets SIGTTIN when it reads the terminal, or
 * SIGTTOU when it switches the echo off, with all of its group. Then
 *
 * - if we are in the foreground, its group is put there and continued. While it is there, Ctrl-C is its
 *   own. The terminal is taken back when it is set as it was before, and the command has done something
 *   that shows that its question is answered: it had set it otherwise, or the stream moves again. One that
 *   asks the next question is stopped again.
 * - if we are not, our group is stopped in the same way, as it would be if the command were part of it:
 *   the shell tells the user, who puts us into the foreground. We are the command's own shell in that.
 *
 * Ctrl-Z at its question reaches only the command, and is passed on to us and our group in the same way.
 * At any other time it reaches only us; the command then waits for the stream, at one end or the other.
 *
 * That the command itself is stopped is how it begins. From then on its whole group is looked at: one that
 * puts the terminal in order first, as ssh does, stops itself some time after the others.
 */
export class TerminalLoan {
  readonly #tree: ProcessTree;
  readonly #moved: () => number;
  #tty = -1;
  /** As it was set when it was lent; undefined while it is not. */
  #before: TerminalSettings | undefined;
  #movedBefore = 0;
  /** It has been set otherwise since. */
  #used = false;
  #answered = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #quiet = 0;
  /** Something in its group was stopped at the last look. */
  #stopped = false;
  #over = false;

  /** It has been lent, now or before: then Ctrl-C may have been for the command alone. */
  granted = false;

  /** @param moved a number that grows as the command takes or gives bytes of the stream */
  constructor(tree: ProcessTree, moved: () => number) {
    this.#tree = tree;
    this.#moved = moved;
  }

  /** A signal has stopped the command. */
  stopped(signal: NodeJS.Signals | number): void {
    if (this.#over) return;
    if (signal === "SIGTSTP" && this.#isLent) {
      this.#takeBack();
      this.#stopWith(signal);
    } else if ((signal === "SIGTTIN" || signal === "SIGTTOU") && this.#open()) {
      this.#look();
    }
  }

  /** The command has ended: the terminal is ours, and set as it was. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    if (this.#tty < 0) return;
    const before = this.#before;
    const changed = terminalSettings(this.#tty)?.mode !== before?.mode;
    const lent = this.#takeBack();
    if (lent && changed && before !== undefined) attempt(() => setTerminal(this.#tty, before));
    attempt(() => close(this.#tty));
    this.#tty = -1;
  }

  get #isLent(): boolean {
    return this.#before !== undefined && foregroundGroup(this.#tty) === this.#tree.leader.pid;
  }

  #open(): boolean {
    // Without a terminal the signal is somebody's own idea.
    return this.#tty >= 0 || attempt(() => (this.#tty = openTerminal()));
  }

  #look(): void {
    const { stopped } = this.#tree;
    const still = stopped && this.#stopped;
    this.#stopped = stopped;
    this.#quiet = stopped ? 0 : this.#quiet + 1;
    if (this.#isLent) {
      // Not at the first sight of it: Ctrl-Z may have done it, of which the command itself tells.
      if (still) this.#tree.resume();
      else if (!stopped && this.#isAnswered()) this.#takeBack();
      else this.#quiet = 0;
    } else if (stopped) {
      if (foregroundGroup(this.#tty) === ownGroup()) this.#lend();
      else this.#stopWith("SIGTTIN");
    }
    if (this.#quiet < QUIET_LOOKS) this.#soon(LOOKING);
  }

  #lend(): void {
    const settings = terminalSettings(this.#tty);
    const lent = attempt(() => setForegroundGroup(this.#tty, this.#tree.leader.pid));
    if (settings === undefined || !lent) return;
    this.granted = true;
    this.#before = settings;
    this.#used = false;
    this.#answered = 0;
    this.#movedBefore = this.#moved();
    this.#stopped = false;
    this.#tree.resume();
  }

  #isAnswered(): boolean {
    const asBefore = terminalSettings(this.#tty)?.mode === this.#before?.mode;
    this.#used ||= !asBefore;
    const answered = asBefore && (this.#used || this.#moved() > this.#movedBefore);
    this.#answered = answered ? this.#answered + 1 : 0;
    return this.#answered >= ANSWERED_LOOKS;
  }

  /** @returns false when it is not ours to take: the shell may have given it to somebody else */
  #takeBack(): boolean {
    const lent = this.#isLent;
    this.#before = undefined;
    return lent && attempt(() => setForegroundGroup(this.#tty, ownGroup()));
  }

  /** Has all stopped that belongs to us. Without a shell that could continue us, it has no effect. */
  #stopWith(signal: "SIGTTIN" | "SIGTSTP"): void {
    send(0, signal);
    this.#quiet = 0;
    this.#soon(STOPPING);
  }

  /** Looks again in so many milliseconds, if not before. */
  #soon(milliseconds: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#look();
    }, milliseconds);
    this.#timer.unref();
  }
}

/** @returns false when it has failed: a terminal may be gone at any time */
function attempt(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
