/** Lends the terminal to a background command while it asks for a password. */
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
import { isPending, send } from "./proc.ts";
import type { ProcessTree } from "./process-tree.ts";

/** Milliseconds between two checks of the command and the terminal. */
const CHECK_INTERVAL = 100;
/** Checks that must find the question answered: at the first one, it may not have been asked yet. */
const ANSWERED_CHECKS = 3;
/** Milliseconds in which a signal that stops this process takes effect; the next check follows. */
const STOP_DELAY = 300;
/** Checks that leave the command the time to take Ctrl-Z itself: on a busy machine others may be stopped long before. */
const TAKING_CHECKS = 20;
/** Checks that find nothing stopped, after which checking ends until the command is stopped again. */
const IDLE_CHECKS = 20;

/**
 * The terminal's signals must reach this process alone, so a command has a process group of its own, in
 * the background. A command that asks for a password there is stopped with its group: by SIGTTIN when
 * it reads the terminal, or by SIGTTOU when it switches the echo off. Then
 *
 * - if this process is in the foreground, the command's group is put there and continued. Ctrl-C then
 *   reaches the command alone. The terminal is taken back when its settings are as before and the
 *   question has been answered: the command had changed the settings, or the stream moves again. A
 *   command that asks again is stopped again.
 * - if this process is in the background, its own group is stopped by the same signal, as if the
 *   command were part of it: the shell reports that, and the user puts the group into the foreground.
 *
 * Ctrl-Z at the question reaches only the command, and is passed on to this process's group. At any
 * other time Ctrl-Z reaches only this process; the command then waits for the stream.
 *
 * The checks begin when the command itself is stopped, and look at its whole group: a process that
 * first restores the terminal, as ssh does, stops itself some time after the others.
 */
export class TerminalLoan {
  readonly #tree: ProcessTree;
  readonly #moved: () => number;
  #tty = -1;
  /** The settings when the terminal was lent; undefined while it is not lent. */
  #before: TerminalSettings | undefined;
  #movedBefore = 0;
  /** True when the command has changed the settings. */
  #changed = false;
  #answeredChecks = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #idleChecks = 0;
  /** True when a process of the group was stopped at the last check. */
  #stopped = false;
  #takingChecks = 0;
  #over = false;

  /** True once the terminal has been lent: from then on, Ctrl-C may have reached the command alone. */
  granted = false;

  /** @param moved returns a number that grows as the command takes or gives bytes of the stream */
  constructor(tree: ProcessTree, moved: () => number) {
    this.#tree = tree;
    this.#moved = moved;
  }

  /** Must be called when a signal has stopped the command. */
  stopped(signal: NodeJS.Signals | number): void {
    if (this.#over) return;
    if (signal === "SIGTSTP" && this.#isLent) {
      this.#takeBack();
      this.#stopOwnGroup(signal);
    } else if ((signal === "SIGTTIN" || signal === "SIGTTOU") && this.#open()) {
      this.#check();
    }
  }

  /** Takes the terminal back, with its settings, and lends it no more. */
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
    return this.#before !== undefined && foregroundGroup(this.#tty) === this.#tree.child.pid;
  }

  #open(): boolean {
    // Without a terminal, another program has sent the signal.
    return this.#tty >= 0 || attempt(() => (this.#tty = openTerminal()));
  }

  #check(): void {
    const { stopped } = this.#tree;
    const still = stopped && this.#stopped;
    this.#stopped = stopped;
    this.#idleChecks = stopped ? 0 : this.#idleChecks + 1;
    if (this.#isLent) {
      if (still) this.#resumeOthers();
      else if (!stopped && this.#isAnswered()) this.#takeBack();
      else this.#idleChecks = 0;
    } else if (stopped) {
      if (foregroundGroup(this.#tty) === ownGroup()) this.#lend();
      else this.#stopOwnGroup("SIGTTIN");
    }
    if (this.#idleChecks < IDLE_CHECKS) this.#checkIn(CHECK_INTERVAL);
  }

  /** Continues what has stopped itself, but not what Ctrl-Z has stopped: that stops the command, too. */
  #resumeOthers(): void {
    const { child } = this.#tree;
    child.poll();
    // stopped() has been called.
    if (!this.#isLent) return;
    // SIGCONT would discard it (signal(7)).
    const isTaking = isPending(child.pid, "SIGTSTP");
    this.#takingChecks = isTaking ? this.#takingChecks + 1 : 0;
    if (!isTaking || this.#takingChecks > TAKING_CHECKS) this.#tree.resume();
  }

  #lend(): void {
    const settings = terminalSettings(this.#tty);
    const lent = attempt(() => setForegroundGroup(this.#tty, this.#tree.child.pid));
    if (settings === undefined || !lent) return;
    this.granted = true;
    this.#before = settings;
    this.#changed = false;
    this.#answeredChecks = 0;
    this.#movedBefore = this.#moved();
    this.#stopped = false;
    this.#tree.resume();
  }

  #isAnswered(): boolean {
    const asBefore = terminalSettings(this.#tty)?.mode === this.#before?.mode;
    this.#changed ||= !asBefore;
    const answered = asBefore && (this.#changed || this.#moved() > this.#movedBefore);
    this.#answeredChecks = answered ? this.#answeredChecks + 1 : 0;
    return this.#answeredChecks >= ANSWERED_CHECKS;
  }

  /** @returns false when the command is not in the foreground: the shell may have put another job there */
  #takeBack(): boolean {
    const lent = this.#isLent;
    this.#before = undefined;
    return lent && attempt(() => setForegroundGroup(this.#tty, ownGroup()));
  }

  /** Stops this process's group. In an orphaned group, without a shell to continue it, nothing stops. */
  #stopOwnGroup(signal: "SIGTTIN" | "SIGTSTP"): void {
    send(0, signal);
    this.#idleChecks = 0;
    this.#checkIn(STOP_DELAY);
  }

  /** Checks in so many milliseconds, or earlier if a check is already due. */
  #checkIn(milliseconds: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#check();
    }, milliseconds);
    this.#timer.unref();
  }
}

/** @returns false when it fails: a terminal may disappear at any time */
function attempt(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
