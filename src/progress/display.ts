/** What is shown of a stream while it runs, and where. */
import { lineWriter, STDERR } from "../process/line-writer.ts";
import { listen } from "../process/signals.ts";
import { BottomRow } from "./bottom-row.ts";
import { barText, jsonText, lineText, percentOf } from "./text.ts";
import type { Snapshot } from "./watch.ts";

/** Milliseconds between two drawings of the bar. */
const DRAWING = 200;
/**
 * Milliseconds after a change of the terminal's size in which there may be another that tmux has not
 * told us about yet: it does so every 250 ms.
 */
const SETTLING = 300;
/** Milliseconds for a terminal to take what gives it back its last row, when there is no later. */
const GIVING_BACK = 100;
/** Milliseconds between two looks without a bar. */
const LOOKING = 1000;

/** How progress is shown on standard error. */
export type Display = "none" | "bar" | "lines" | "json";

export interface DisplayOptions {
  readonly display: Display;
  /** Milliseconds between two lines. */
  readonly interval: number;
  readonly colour: boolean;
  /** Where to write percentages to. */
  readonly percentFd: number | undefined;
}

/** Shows the progress of one stream; on SIGUSR1 in a line, whatever else is asked for. */
export class ProgressDisplay {
  readonly #options: DisplayOptions;
  readonly #stderr = lineWriter(STDERR);
  readonly #row: BottomRow | undefined;
  /** Undefined before the stream and after it. */
  #look: (() => Snapshot | undefined) | undefined;
  #percent = -1;
  /** Until then the terminal may have changed without our knowing, by performance.now(). */
  #settledAt = 0;
  #timers: ReturnType<typeof setInterval>[] = [];
  /** What there was to be seen at the end. */
  #last: Snapshot | undefined;
  /** Gives SIGTSTP its effect back. */
  #release = () => {};

  constructor(options: DisplayOptions) {
    this.#options = options;
    this.#row = options.display === "bar" ? new BottomRow(STDERR, this.#stderr) : undefined;
    listen("SIGUSR1", () => {
      const now = this.#look?.() ?? this.#last;
      const text = now === undefined ? "the stream has not begun" : lineText(now);
      this.#stderr.tell(`nbd-streaming: ${text}\n`);
    });
  }

  /** The stream begins. @param look tells how far it is */
  begin(look: () => Snapshot | undefined): void {
    const { display, interval } = this.#options;
    this.#look = look;
    this.#tellPercent(false);
    if (display === "bar") {
      this.#every(DRAWING, () => {
        const snapshot = this.#tellPercent(false);
        if (performance.now() >= this.#settledAt) this.#draw(snapshot);
      });
      this.#minded(true);
    } else {
      this.#every(Math.min(LOOKING, interval), () => this.#tellPercent(false));
      if (display !== "none") this.#every(interval, () => this.#say());
    }
  }

  /** The stream has ended, and is about to be reported. @param complete nothing is wrong with it */
  end(complete: boolean): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    if (this.#row !== undefined) {
      this.#minded(false);
      this.#row.remove();
    }
    this.#tellPercent(complete);
    this.#last = this.#look?.();
    this.#look = undefined;
    if (this.#options.display === "json" && this.#last !== undefined) {
      this.#stderr.write(`${jsonText(this.#last)}\n`);
    }
  }

  #every(milliseconds: number, work: () => void): void {
    const timer = setInterval(work, milliseconds);
    timer.unref();
    this.#timers.push(timer);
  }

  #draw(snapshot: Snapshot | undefined): void {
    if (snapshot === undefined) return;
    this.#row?.show((width) => barText(snapshot, width, this.#options.colour));
  }

  readonly #resized = (): void => {
    this.#settledAt = performance.now() + SETTLING;
    this.#draw(this.#look?.());
  };

  #say(): void {
    const snapshot = this.#look?.();
    if (snapshot === undefined) return;
    const { display } = this.#options;
    const text = display === "json" ? jsonText(snapshot) : `nbd-streaming: ${lineText(snapshot)}`;
    this.#stderr.offer(`${text}\n`);
  }

  /** As `nbdcopy --progress=FD` does it, when there is something new. */
  #tellPercent(complete: boolean): Snapshot | undefined {
    const snapshot = this.#look?.();
    const { percentFd } = this.#options;
    if (percentFd === undefined || snapshot === undefined || snapshot.size === null)
      return snapshot;
    const percent = percentOf(snapshot.streamed, snapshot.size, complete);
    if (percent > this.#percent) {
      this.#percent = percent;
      lineWriter(percentFd).write(`${percent}/100\n`);
    }
    return snapshot;
  }

  /**
   * Sees to it that the terminal is whole again whenever this process stops or ends; signals that end it
   * lead to {@link end}.
   */
  #minded(on: boolean): void {
    const how = on ? "on" : "off";
    process[how]("SIGWINCH", this.#resized);
    process[how]("exit", this.#giveBack);
    this.#release();
    if (on) this.#release = listen("SIGTSTP", this.#stopped);
  }

  readonly #giveBack = (): void => {
    this.#row?.remove();
    this.#stderr.drain(GIVING_BACK);
  };

  /** Lets the signal have the effect that it has without us, and takes it again when we are continued. */
  readonly #stopped = (): void => {
    this.#giveBack();
    this.#release();
    process.kill(process.pid, "SIGTSTP");
    setTimeout(() => {
      if (this.#look !== undefined) this.#release = listen("SIGTSTP", this.#stopped);
    }, DRAWING).unref();
  };
}
