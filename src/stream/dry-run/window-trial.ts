/** Tries what a stream with a window of some size, or with a spool, would have done. */
import { Memory } from "../../../ffi/memory.ts";
import { NBD_OK } from "../../protocol/constants.ts";
import { add, type Offset } from "../../protocol/offset.ts";
import { WINDOW_BLOCK } from "../blocks.ts";
import { Counters } from "../counters.ts";
import { SpoolFile } from "../spool-file.ts";
import { SequentialRule } from "../write/rule.ts";
import { type ShiftTarget, Window } from "../write/window.ts";

/** The most runs in a window. To track a client that scatters its data over more is not worth the time. */
const MOST_RUNS = 16_384;

/** The only block of windows that hold no data, where only the positions matter. */
const scratch = new Memory(WINDOW_BLOCK);

/** What has gone by is lost. */
const nowhere: ShiftTarget = {
  pushBytes() {},
  pushFile: (file, at, length) => file.release(add(at, length)),
};

/** In place of a window's size: a spool, which has room for everything. */
export const SPOOL = Number.POSITIVE_INFINITY;

/** The file of a spool that holds no data, where only the positions matter. */
class NoFile extends SpoolFile {
  constructor() {
    super({ fd: -1, folder: "", punches: true, zeroesInPlace: true }, new Counters());
  }

  override punch(): void {}
}

/** Applies {@link SequentialRule}, the rule of real streams, with a window of this size. */
export class WindowTrial {
  /**
   * False once it has refused a WRITE, or would have given a client another reply than it got, after which
   * the client may have gone on in another way.
   */
  alive = true;
  /** It would hold too many runs to track, so it is not known whether it suffices. */
  scattered = false;
  /** The most bytes that a spool held at once. */
  mostHeld = 0;
  readonly #rule: SequentialRule;
  readonly #keeps: boolean;

  /**
   * @param size of the stream in bytes
   * @param window bytes; 0 is none, {@link SPOOL} is a spool
   * @param keeps holds the data, too, and goes on after a WRITE that it has refused
   * @param file where a spool holds the data
   */
  constructor(
    size: Offset,
    readonly window: number,
    keeps = false,
    file: SpoolFile = new NoFile(),
  ) {
    this.#rule = new SequentialRule(size, windowOf(window, keeps, file));
    this.#keeps = keeps;
  }

  /** How much of the window was needed, in bytes. */
  get needed(): number {
    return this.#rule.window?.needed ?? 0;
  }

  /** True when there is nothing more to find out. */
  get #over(): boolean {
    return !this.alive && !this.#keeps;
  }

  /** A WRITE, in the order in which a real stream would take it. */
  write(offset: Offset, length: number): void {
    if (this.#over) return;
    const rule = this.#rule;
    const { plan } = rule;
    this.#plan(offset, length);
    while (!this.#over && plan.kind === "advance") {
      rule.advance(nowhere, offset);
      this.#plan(offset, length);
    }
    if (this.#over) return;
    if (plan.kind === "hold") this.#hold(add(offset, plan.skip), plan.emit);
    else rule.claim();
    this.#advance();
  }

  /** Lets go by what is next in sequence. */
  #advance(): void {
    while (this.#rule.windowIsNext) this.#rule.advance(nowhere);
  }

  #plan(offset: Offset, length: number): void {
    const rule = this.#rule;
    if (rule.planWrite(offset, length) === NBD_OK) return;
    this.alive = false;
    // Keeps the part of it that is not late.
    if (this.#keeps) rule.planWrite(offset, length, true);
  }

  #hold(start: Offset, length: number): void {
    const rule = this.#rule;
    const window = rule.window as Window;
    const end = add(start, length);
    rule.reserve(start, end);
    window.hold(start, end);
    if (this.window === SPOOL) {
      this.mostHeld = Math.max(this.mostHeld, Number(window.held));
      return;
    }
    // Which blocks were needed takes longer to count the more runs there are.
    if (window.runs <= MOST_RUNS) return;
    this.scattered ||= this.alive;
    this.alive = false;
  }

  /** Takes the payload, or a part of it, of a WRITE that was passed to {@link write}. */
  put(at: Offset, bytes: Uint8Array): void {
    this.#rule.window?.overwrite(at, bytes);
  }

  /** A WRITE_ZEROES. @returns false when it is late */
  zero(offset: Offset, length: Offset): boolean {
    if (this.#over) return true;
    const rule = this.#rule;
    const late = rule.zero(offset, length) !== NBD_OK;
    if (late) {
      this.alive = false;
      if (this.#keeps) rule.zero(offset, length, true);
    }
    this.#advance();
    return !late;
  }

  /** A READ. @returns the same as `SequentialRule.read` */
  read(offset: Offset, length: Offset): number {
    const error = this.#rule.read(offset, length);
    if (error === NBD_OK && length > 0) this.#rule.window?.countNeeded(offset);
    return error;
  }

  /** The data of such a READ, if it is held; undefined is zeroes. */
  data(offset: Offset, length: number): Uint8Array | undefined {
    return this.#rule.window?.read(offset, length);
  }

  /** @returns the same as `SequentialRule.dataAt` */
  dataAt(offset: Offset): [data: boolean, until: Offset | undefined] {
    return this.#rule.dataAt(offset);
  }
}

function windowOf(window: number, keeps: boolean, spool: SpoolFile): Window | undefined {
  if (window === SPOOL) return new Window(0, { spool });
  if (window === 0) return undefined;
  return new Window(window, keeps ? {} : { allocate: () => scratch });
}
