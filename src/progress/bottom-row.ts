/**
 * The last row of a terminal, kept for a bar.
 *
 * A captive command writes to the same terminal whenever it likes, whole lines or parts of lines, and
 * nobody tells us. A bar that is redrawn in place with a carriage return would then be torn: the
 * command writes behind it, or the next drawing over what the command has said. So the rows above are
 * made the terminal's scroll region (DECSTBM), as apt does: what others write stays and scrolls in
 * there, the cursor is back where they left it after every drawing (DECSC, DECRC), and a drawing is
 * one write(2), which the kernel does not mix with theirs. There are libraries for redrawing a line
 * (log-update, cli-progress), but they have to be told of all that is written in between.
 *
 * A change of the terminal's size makes it forget the region. Until we hear of that, what is written may
 * run into the old bar, whose end then stays behind it: at once for most terminals, but tmux tells only
 * every 250 ms while its window is dragged. Nothing that others have written is lost.
 *
 * Control sequences: ECMA-48 and DEC STD 070, as xterm, VTE, tmux, screen and the Linux console have
 * them.
 */
import { isInForeground, type WindowSize, windowSize } from "../../ffi/terminal.ts";
import type { LineWriter } from "../process/line-writer.ts";

const SAVE = "\x1b7";
const RESTORE = "\x1b8";
/** Moves the cursor to the top left, too. */
const WHOLE_SCREEN_SCROLLS = "\x1b[r";
const PLAIN = "\x1b[0m";
const CLEAR_TO_END_OF_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
/**
 * A line down, and up again: where the whole screen scrolls, that moves something only if the cursor is
 * in the last row, as it may be at first, and after the terminal has become smaller and has forgotten
 * about the scroll region. The column stays.
 */
const LEAVE_LAST_ROW = "\x1bD\x1b[A";

/**
 * Whatever the number: a terminal multiplexer may tell us some time later that it has been resized
 * (tmux: up to 250 ms), and by then an exact number would be that of a row which is not ours.
 */
const TO_LAST_ROW = "\x1b[999;1H";
/** A drawing that is too long for the same reason must not wrap. */
const NO_WRAP = "\x1b[?7l";
const WRAP = "\x1b[?7h";

/** With fewer rows or columns there is no bar. */
const LEAST_ROWS = 4;
const LEAST_COLUMNS = 10;

export class BottomRow {
  readonly #fd: number;
  readonly #writer: LineWriter;
  /** The terminal's size when its last row was set apart; undefined while it is not. */
  #reserved: WindowSize | undefined;

  /** @param fd a terminal @param writer to it */
  constructor(fd: number, writer: LineWriter) {
    this.#fd = fd;
    this.#writer = writer;
  }

  /**
   * Draws, if the terminal is ours and takes it right now: one of another job, or of a shell that we
   * have been left in the background of, is let alone.
   *
   * @param text what to draw, given the columns that there are for it
   */
  show(text: (width: number) => string): void {
    if (!isInForeground(this.#fd)) return;
    const size = windowSize(this.#fd);
    if (size === undefined || size.rows < LEAST_ROWS || size.columns < LEAST_COLUMNS) {
      this.remove();
      return;
    }
    const { rows, columns } = size;
    // The last column stays empty, because terminals differ in where the cursor is after it.
    const bar = `${PLAIN}${text(columns - 1)}${CLEAR_TO_END_OF_LINE}`;
    const drawing =
      `${this.#clearOld(size)}${SAVE}${WHOLE_SCREEN_SCROLLS}${RESTORE}${LEAVE_LAST_ROW}` +
      `${SAVE}\x1b[1;${rows - 1}r${NO_WRAP}${TO_LAST_ROW}${bar}${WRAP}${RESTORE}`;
    if (this.#writer.tryWrite(drawing)) this.#reserved = size;
  }

  /** Gives the row back, empty. */
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

  /** After a change of size the old bar is wherever the terminal has put it, but below the cursor. */
  #clearOld({ rows, columns }: WindowSize): string {
    const old = this.#reserved;
    if (old === undefined || (old.rows === rows && old.columns === columns)) return "";
    return `${SAVE}${WHOLE_SCREEN_SCROLLS}${RESTORE}${PLAIN}${CLEAR_BELOW}${RESTORE}`;
  }
}
