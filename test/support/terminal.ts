/** A terminal that can be looked at: a tmux server of the test's own. */
import { WAIT_LIMIT } from "./program.ts";
import { tempFolder } from "./temp.ts";

/** Undefined where tests with a terminal can run, else why not. */
export const noTerminal = Bun.which("tmux") === null ? "there is no tmux" : undefined;

/** `using` ends all that runs in it. */
export class Terminal implements Disposable {
  readonly #folder = tempFolder();
  readonly #socket = this.#folder.file("tmux");

  /**
   * @param line shell words; the terminal stays when they are done
   * @param cwd where they are run
   */
  constructor(line: string, cwd: string, columns: number, rows: number) {
    const size = ["-x", String(columns), "-y", String(rows)];
    const words = ["sh", "-c", `${line}\nwhile :; do read -r _ || exit; done`];
    this.#tmux("-f", "/dev/null", "new-session", "-d", ...size, "-c", cwd, "--", ...words);
  }

  /** What it shows: one string for each row, without the blanks at its end. */
  get rows(): string[] {
    const rows = this.#tmux("capture-pane", "-p").split("\n").slice(0, -1);
    return rows.map((row) => row.trimEnd());
  }

  /** What it shows, with the control sequences for colours. */
  get coloured(): string {
    return this.#tmux("capture-pane", "-p", "-e");
  }

  /** All that it has ever shown, in lines as they were written, without empty ones at the end. */
  get transcript(): string[] {
    const all = this.#tmux("capture-pane", "-p", "-J", "-S", "-").trimEnd();
    return all.split("\n").map((row) => row.trimEnd());
  }

  /** The last row that scrolls, counted from 1. */
  get lastScrolling(): number {
    return Number(this.#tmux("display-message", "-p", "#{scroll_region_lower}")) + 1;
  }

  resize(columns: number, rows: number): void {
    this.#tmux("resize-window", "-x", String(columns), "-y", String(rows));
  }

  /** Presses a key, such as `C-c`. */
  press(key: string): void {
    this.#tmux("send-keys", key);
  }

  /** Waits until what is shown is as it should be. */
  async showing(condition: (rows: string[]) => boolean, what: string): Promise<void> {
    const deadline = performance.now() + WAIT_LIMIT;
    while (!condition(this.rows)) {
      if (performance.now() > deadline) {
        throw new Error(`waited in vain for ${what}; the terminal shows\n${this.rows.join("\n")}`);
      }
      await Bun.sleep(20);
    }
  }

  [Symbol.dispose](): void {
    try {
      this.#tmux("kill-server");
    } finally {
      this.#folder[Symbol.dispose]();
    }
  }

  #tmux(...words: string[]): string {
    const { TMUX: _, NO_COLOR: __, ...env } = process.env;
    const { exitCode, stdout, stderr } = Bun.spawnSync(["tmux", "-S", this.#socket, ...words], {
      env: { ...env, LC_ALL: "C.UTF-8" },
    });
    if (exitCode !== 0) throw new Error(`tmux ${words.join(" ")} failed: ${stderr.toString()}`);
    return stdout.toString();
  }
}
