/** Shows the progress of a stream on standard error, and percentages on another descriptor. */
import { lineWriter, STDERR } from "../process/line-writer.ts";
import { listen } from "../process/signals.ts";
import { BottomRow } from "./bottom-row.ts";
import { barText, jsonText, lineText, percentOf } from "./text.ts";
import type { Snapshot } from "./watch.ts";

/** Milliseconds between two drawings of the bar. */
const DRAW_INTERVAL = 200;
/** Milliseconds without drawing after SIGWINCH: tmux reports the next change up to 250 ms late. */
const RESIZE_PAUSE = 300;
/** Milliseconds for a terminal to take the text that restores its last row. */
const RESTORE_LIMIT = 100;
/** The most milliseconds between two percentages without a bar. */
const PERCENT_INTERVAL = 1000;

/** The form of progress on standard error. */
export type Display = "none" | "bar" | "lines" | "json";

export interface DisplayOptions {
  readonly display: Display;
  /** Milliseconds between two lines. */
  readonly interval: number;
  readonly colour: boolean;
  /** The descriptor for percentages. */
  readonly percentFd: number | undefined;
}

/** What is shown: the progress of one stream, or of several. */
export interface Shown {
  /** The progress, or that of all together; undefined before the start. */
  total(): Snapshot | undefined;
  /** Of several streams, the progress of each, by export name. */
  each?(): ReadonlyMap<string, Snapshot>;
}

/** Shows the progress of one stream, or of several; on SIGUSR1, as lines, in every form. */
export class ProgressDisplay {
  readonly #options: DisplayOptions;
  readonly #stderr = lineWriter(STDERR);
  readonly #row: BottomRow | undefined;
  /** Undefined before and after the stream. */
  #shown: Shown | undefined;
  #percent = -1;
  /** No drawing before this time, by performance.now(): the terminal may have been resized again. */
  #pausedUntil = 0;
  #timers: ReturnType<typeof setInterval>[] = [];
  /** The lines at the end of the stream. */
  #last: readonly string[] | undefined;
  /** Restores the default effect of SIGTSTP. */
  #releaseTstp = () => {};

  constructor(options: DisplayOptions) {
    this.#options = options;
    this.#row = options.display === "bar" ? new BottomRow(STDERR, this.#stderr) : undefined;
    listen("SIGUSR1", () => {
      const now = this.#lines();
      const lines = now.length > 0 ? now : (this.#last ?? ["the stream has not begun"]);
      for (const text of lines) this.#stderr.writeOrDrop(`nbd-streaming: ${text}\n`);
    });
  }

  /** Called when the stream begins. */
  begin(shown: Shown): void {
    const { display, interval } = this.#options;
    this.#shown = shown;
    this.#writePercent(false);
    if (display === "bar") {
      this.#every(DRAW_INTERVAL, () => {
        const snapshot = this.#writePercent(false);
        if (performance.now() >= this.#pausedUntil) this.#draw(snapshot);
      });
      this.#listen(true);
    } else {
      this.#every(Math.min(PERCENT_INTERVAL, interval), () => this.#writePercent(false));
      if (display !== "none") this.#every(interval, () => this.#writeLine());
    }
  }

  /** Called when the stream has ended, before its report. @param complete the stream is complete */
  end(complete: boolean): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    if (this.#row !== undefined) {
      this.#listen(false);
      this.#row.remove();
    }
    this.#writePercent(complete);
    this.#last = this.#lines();
    if (this.#options.display === "json") {
      for (const text of this.#json()) this.#stderr.write(`${text}\n`);
    }
    this.#shown = undefined;
  }

  /** The progress as lines for people, one for each stream. */
  #lines(): string[] {
    const each = this.#shown?.each?.();
    if (each !== undefined) return [...each].map(([name, one]) => `${name}: ${lineText(one)}`);
    const snapshot = this.#shown?.total();
    return snapshot === undefined ? [] : [lineText(snapshot)];
  }

  /** The progress as lines for programs, one for each stream. */
  #json(): string[] {
    const each = this.#shown?.each?.();
    if (each !== undefined) return [...each].map(([name, one]) => jsonText(one, name));
    const snapshot = this.#shown?.total();
    return snapshot === undefined ? [] : [jsonText(snapshot)];
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
    this.#pausedUntil = performance.now() + RESIZE_PAUSE;
    this.#draw(this.#shown?.total());
  };

  #writeLine(): void {
    const total = this.#shown?.total();
    if (total === undefined) return;
    const json = this.#options.display === "json";
    const lines = json ? this.#json() : [`nbd-streaming: ${lineText(total)}`];
    for (const text of lines) this.#stderr.tryWrite(`${text}\n`);
  }

  /** Writes a percentage that has grown, in the format of `nbdcopy --progress=FD`. */
  #writePercent(complete: boolean): Snapshot | undefined {
    const snapshot = this.#shown?.total();
    const { percentFd } = this.#options;
    if (percentFd === undefined || snapshot === undefined) return snapshot;
    const { streamed, size, phase } = snapshot;
    // While nothing is streamed it is 0 of any size, even of one that is not known yet.
    if (size === null && phase !== "holding") return snapshot;
    const percent = percentOf(streamed, size ?? 0, complete);
    if (percent > this.#percent) {
      this.#percent = percent;
      lineWriter(percentFd).write(`${percent}/100\n`);
    }
    return snapshot;
  }

  /** Restores the terminal when this process stops or exits. Signals that end it lead to {@link end}. */
  #listen(on: boolean): void {
    const method = on ? "on" : "off";
    process[method]("SIGWINCH", this.#resized);
    process[method]("exit", this.#restoreTerminal);
    this.#releaseTstp();
    if (on) this.#releaseTstp = listen("SIGTSTP", this.#stopped);
  }

  readonly #restoreTerminal = (): void => {
    this.#row?.remove();
    this.#stderr.drain(RESTORE_LIMIT);
  };

  /** Stops this process by the signal's default effect, and listens again once it is continued. */
  readonly #stopped = (): void => {
    this.#restoreTerminal();
    this.#releaseTstp();
    process.kill(process.pid, "SIGTSTP");
    setTimeout(() => {
      if (this.#shown !== undefined) this.#releaseTstp = listen("SIGTSTP", this.#stopped);
    }, DRAW_INTERVAL).unref();
  };
}
