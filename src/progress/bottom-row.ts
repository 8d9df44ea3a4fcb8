/**
 * Draws the progress bar on the last row of a terminal.
 *
 * A captive command writes to the same terminal at any time, whole lines or parts of lines. A bar that
 * is redrawn with a carriage return would be torn: the command writes behind it, or the next drawing
 * overwrites the command's output. So, as in apt, the rows above are the terminal's scroll region
 * (DECSTBM), in which all other output stays and scrolls. Each drawing restores the cursor (DECSC,
 * DECRC) and is one write(2), which the kernel does not mix with others. Libraries that redraw a line
 * (log-update, cli-progress) have to know all output in between.
 *
 * A resized terminal forgets the scroll region. Until SIGWINCH arrives, output may run into the old bar
 * and leave its end behind. Most terminals send it at once; tmux sends it every 250 ms while a window
 * is dragged. No output of others is lost.
 *
 * Control sequences: ECMA-48 and DEC STD 070, as supported by xterm, VTE, tmux, screen and the Linux
 * console.
 */
import { isInForeground, type WindowSize, windowSize } from "../../ffi/terminal.ts";
import type { LineWriter } from "../process/line-writer.ts";

const SAVE = "\x1b7";
const RESTORE = "\x1b8";
/** Also moves the cursor to the top left. */
const WHOLE_SCREEN_SCROLLS = "\x1b[r";
const PLAIN = "\x1b[0m";
const CLEAR_TO_END_OF_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
/**
 * A line down, and up again, in the same column. While the whole screen scrolls, this moves text only
 * if the cursor is in the last row, as at the start, or after the terminal has become smaller.
 */
const LEAVE_LAST_ROW = "\x1bD\x1b[A";

/**
 * Not an exact number, which would be wrong between a change of the size and the late SIGWINCH of a
 * terminal multiplexer (tmux: up to 250 ms).
 */
const TO_LAST_ROW = "\x1b[999;1H";
/** For the same reason the bar may be too long; it must not wrap. */
const NO_WRAP = "\x1b[?7l";
const WRAP = "\x1b[?7h";

/** The smallest terminal that shows a bar. */
const MIN_ROWS = 4;
const MIN_COLUMNS = 10;

export class BottomRow {
  readonly #fd: number;
  readonly #writer: LineWriter;
  /** The terminal's size when its last row was reserved; undefined while it is not. */
  #reserved: WindowSize | undefined;

  /** @param fd a terminal @param writer for the same terminal */
  constructor(fd: number, writer: LineWriter) {
    this.#fd = fd;
    this.#writer = writer;
  }

  /**
   * Draws, if this process is in the foreground and the terminal takes the text now.
   *
   * @param text returns the text for a width in columns
   */
  show(text: (width: number) => string): void {
    if (!isInForeground(this.#fd)) return;
    const size = windowSize(this.#fd);
    if (size === undefined || size.rows < MIN_ROWS || size.columns < MIN_COLUMNS) {
      this.remove();
      return;
    }
    const { rows, columns } = size;
    // The last column stays empty: terminals differ in the position of the cursor after it.
    const bar = `${PLAIN}${text(columns - 1)}${CLEAR_TO_END_OF_LINE}`;
    const drawing =
      `${this.#clearOld(size)}${SAVE}${WHOLE_SCREEN_SCROLLS}${RESTORE}${LEAVE_LAST_ROW}` +
      `${SAVE}\x1b[1;${rows - 1}r${NO_WRAP}${TO_LAST_ROW}${bar}${WRAP}${RESTORE}`;
    if (this.#writer.tryWrite(drawing)) this.#reserved = size;
  }

  /** Clears the row, and ends the scroll region. */
  remove(): void {
    const reserved = this.#reserved;
    if (reserved === undefined) return;
    this.#reserved = undefined;
    const size = windowSize(this.#fd);
    const resized = size?.rows !== reserved.rows || size.columns !== reserved.columns;
    const clear = resized
      ? `${RESTORE}${CLEAR_BELOW}`
      : `${TO_LAST_ROW}${PLAIN}${CLEAR_TO_END_OF_LINE}${RESTORE}`;
    this.#writer.write(`${SAVE}${WHOLE_SCREEN_SCROLLS}${clear}`);
  }

  /** After a change of the size, the old bar is somewhere below the cursor. */
  #clearOld({ rows, columns }: WindowSize): string {
    const old = this.#reserved;
    if (old === undefined || (old.rows === rows && old.columns === columns)) return "";
    return `${SAVE}${WHOLE_SCREEN_SCROLLS}${RESTORE}${PLAIN}${CLEAR_BELOW}${RESTORE}`;
  }
}
