/**
 * The sequential rule: the effect of a client's request on a stream that only goes forward.
 *
 * Arithmetic over positions. It does no I/O itself, but a {@link Window} with a spool has its data in a file.
 */
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../protocol/constants.ts";
import { advertisedSize } from "../../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import { Runs } from "../runs.ts";
import type { ShiftTarget, Window } from "./window.ts";

/** A WRITE that the rule admits, in the order in which it reaches the stream. */
export interface WritePlan {
  /**
   * `emit`: it goes out now. `hold`: its `emit` bytes go into the window. `advance`: the window is
   * full, so its first gap is a hole; {@link SequentialRule.advance} and plan again.
   */
  kind: "emit" | "hold" | "advance";
  /** Bytes at the payload's start that were emitted before, and are not emitted again. */
  skip: number;
  /** Zeroes to emit before the payload: the gap that the client left. */
  gap: Offset;
  /** Bytes of the payload to emit. */
  emit: number;
  /**
   * Bytes at the payload's end between the stream's end and the advertised size, which is rounded up to
   * whole sectors. They are not emitted, and must be zeroes.
   */
  tail: number;
}

/** The state of a stream that is written. */
export class SequentialRule {
  /** Bytes claimed for the sink so far: the position of the next byte in sequence. */
  head: Offset = 0;
  /** The end of the zeroes that clients have asked for. */
  #zeroed: Offset = 0;
  /** The result of {@link planWrite}; one object that is reused. */
  readonly plan: WritePlan = { kind: "emit", skip: 0, gap: 0, emit: 0, tail: 0 };
  /** The size of the disk in bytes: whole sectors. */
  readonly advertised: Offset;
  readonly #zeroRuns = new ZeroRuns();
  /** Start of the first gap that was emitted as zeroes: no window would hold what lies before. */
  #firstGap: Offset | undefined;
  /**
   * With a spool, where a gap is a hole only at the end: the zeroes ahead of the head that clients have asked for,
   * which fill a gap. Undefined from the moment a client writes into them while there is a gap: it zeroes first
   * and writes later, so its zeroes tell nothing.
   */
  #asked: Runs | undefined;

  /**
   * @param size the stream's length in bytes
   * @param window holds data ahead of its turn; without it, a gap is a hole at once
   */
  constructor(
    readonly size: Offset,
    readonly window?: Window,
  ) {
    this.advertised = advertisedSize(size);
    if (window?.spool !== undefined) this.#asked = new Runs();
  }

  /** The end of zeroes that a client asked for and that are not emitted yet; never below `head`. */
  get pending(): Offset {
    return max(this.#zeroed, this.head);
  }

  /**
   * Judges a WRITE and fills `plan`, without changing the state.
   *
   * @param repeated the client sends it again after its connection was lost: skips what the sink has
   * @returns NBD_OK; NBD_ENOSPC past the end; NBD_EIO below the head
   */
  planWrite(offset: Offset, length: number, repeated = false): number {
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    const { plan, head } = this;
    plan.skip = 0;
    if (offset < head) {
      if (!repeated) return NBD_EIO;
      plan.skip = Number(subtract(min(head, end), offset));
    }
    const start = plan.skip > 0 ? add(offset, plan.skip) : offset;
    plan.emit = length - plan.skip;
    plan.tail = 0;
    if (end > this.size) {
      plan.emit = Number(subtract(this.size, min(start, this.size)));
      plan.tail = length - plan.skip - plan.emit;
    }
    // If nothing of the payload is emitted, the gap is not emitted now either.
    plan.gap = plan.emit > 0 ? subtract(start, head) : 0;
    plan.kind = "emit";
    if (plan.emit > 0 && this.window !== undefined) this.#planWindow(this.window, start, end);
    return NBD_OK;
  }

  /** A WRITE of [start, end) goes into the window if it leaves a gap. */
  #planWindow(window: Window, start: Offset, end: Offset): void {
    window.countNeeded(start);
    if (this.plan.gap === 0) return;
    const asked = this.#asked;
    if (asked?.covers(this.head, start) === true && !asked.overlaps(start, end)) return;
    if (window.fits(start, end)) this.plan.kind = "hold";
    else if ((window.start ?? start) < start) this.plan.kind = "advance";
  }

  /** Puts the WRITE that {@link planWrite} has just admitted into the window, if there is room. */
  holdBack(offset: Offset): void {
    const { plan, window } = this;
    const start = add(offset, plan.skip);
    if (plan.emit === 0 || window?.fits(start, add(start, plan.emit)) !== true) return;
    plan.kind = "hold";
  }

  /**
   * Takes the room in the window for a WRITE of [start, end) that {@link planWrite} has just admitted.
   *
   * @param out as for `Window.reserve`
   */
  reserve(start: Offset, end: Offset, out?: boolean): void {
    this.window?.reserve(start, end, out);
    if (this.#asked?.overlaps(start, end) === true) this.#asked = undefined;
  }

  /** Takes the WRITE that {@link planWrite} has just admitted into the stream. */
  claim(): void {
    const { plan } = this;
    this.#skipTo(add(this.head, plan.gap));
    this.head = add(this.head, plan.emit);
    if (plan.tail > 0) this.#zeroed = this.size;
    this.window?.trim(this.head);
    this.#asked?.remove(0, this.head);
  }

  /** True when the window's first run is next in sequence, perhaps behind zeroes that were asked for. */
  get windowIsNext(): boolean {
    const start = this.window?.start;
    if (start === undefined) return false;
    return start <= this.head || this.#asked?.covers(this.head, start) === true;
  }

  /**
   * Takes the window's first run into the stream, after the gap before it.
   *
   * @param target gets the run as `Window.shift` gives it
   * @param limit start of the WRITE that is admitted next, and may replace what is held
   * @returns the length of the gap, which has to be emitted first
   */
  advance(target: ShiftTarget, limit?: Offset): Offset {
    const window = this.window as Window;
    const gap = this.#skipTo(window.start as Offset);
    this.head = window.shift(target, limit);
    this.#asked?.remove(0, this.head);
    return gap;
  }

  /** The end of the stream if no more requests come. */
  get end(): Offset {
    return max(this.pending, this.window?.end ?? 0);
  }

  /** Takes back the last `length` bytes that were claimed and did not get to the sink. */
  rewind(length: Offset): void {
    this.head = subtract(this.head, length);
    // With a spool, all zeroes that were emitted had been asked for.
    this.#zeroRuns.rewind(this.head, (from, to) => this.#asked?.add(from, to));
    if (this.#firstGap !== undefined && this.#firstGap >= this.head) this.#firstGap = undefined;
  }

  /**
   * The window, in bytes, that suffices for a WRITE or READ below the head; less may do. Undefined if no
   * window suffices: everything up to there came in order, so no window would hold it.
   */
  windowFor(offset: Offset): Offset | undefined {
    // With a spool there was room for everything.
    if (this.window?.spool !== undefined) return undefined;
    if (this.#firstGap === undefined || offset < this.#firstGap) return undefined;
    return subtract(max(this.head, this.window?.end ?? 0), offset);
  }

  /**
   * Takes a WRITE_ZEROES. The zeroes are only noted, and later data may replace them. Below the head it is
   * valid where the stream has zeroes already: a client out of order zeroes what was emitted as a gap.
   *
   * @param repeated it is known that the stream has only zeroes there
   * @returns the same as {@link planWrite}
   */
  zero(offset: Offset, length: Offset, repeated = false): number {
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    const late = offset < this.head && !repeated;
    if (late && !this.#zeroRuns.cover(offset, min(end, this.head))) return NBD_EIO;
    this.#zeroed = max(this.#zeroed, min(end, this.size));
    this.#asked?.add(max(offset, this.head), min(end, this.size));
    this.window?.zero(offset, end);
    return NBD_OK;
  }

  /**
   * Judges a READ: ahead of the head, the stream reads as zeroes.
   *
   * @returns NBD_OK; NBD_EINVAL past the end; NBD_EIO below the head
   */
  read(offset: Offset, length: Offset): number {
    if (add(offset, length) > this.advertised) return NBD_EINVAL;
    return offset < this.head ? NBD_EIO : NBD_OK;
  }

  /**
   * The block status at `offset`: data that was streamed or is held, or zeroes.
   *
   * @returns true for data, and up to where; undefined is the end
   */
  dataAt(offset: Offset): [data: boolean, until: Offset | undefined] {
    if (offset < this.head) return [true, this.head];
    const run = this.window?.runAt(offset);
    if (run === undefined) return [false, undefined];
    return run.start <= offset ? [true, run.end] : [false, run.start];
  }

  /** Moves the head to `end` with zeroes; only while nothing is held. @returns how many have to be emitted */
  fill(end: Offset): Offset {
    if (end <= this.head) return 0;
    return this.#skipTo(end);
  }

  /** Moves the head over zeroes. @returns how many */
  #skipTo(end: Offset): Offset {
    if (end === this.head) return 0;
    this.#firstGap ??= this.head;
    this.#zeroRuns.add(this.head, end);
    const zeroes = subtract(end, this.head);
    this.head = end;
    return zeroes;
  }
}

/** A limit of remembered runs, so that a stream of any length takes the same memory. */
const REMEMBERED_RUNS = 4096;

/** The latest runs of zeroes that were emitted and not sent as data, in order. */
class ZeroRuns {
  readonly #starts: Offset[] = [];
  readonly #ends: Offset[] = [];

  /** Adds [start, end), which lies behind all runs before. */
  add(start: Offset, end: Offset): void {
    const last = this.#ends.length - 1;
    if (this.#ends[last] === start) {
      this.#ends[last] = end;
      return;
    }
    this.#starts.push(start);
    this.#ends.push(end);
    if (this.#starts.length < 2 * REMEMBERED_RUNS) return;
    this.#starts.splice(0, REMEMBERED_RUNS);
    this.#ends.splice(0, REMEMBERED_RUNS);
  }

  /** Forgets zeroes from `end` on, which were not emitted. @param forget gets each run of them */
  rewind(end: Offset, forget: (from: Offset, to: Offset) => void): void {
    const [starts, ends] = [this.#starts, this.#ends];
    while (starts.length > 0 && (starts.at(-1) as Offset) >= end) {
      forget(starts.pop() as Offset, ends.pop() as Offset);
    }
    const last = ends.length - 1;
    if (last < 0 || (ends[last] as Offset) <= end) return;
    forget(end, ends[last] as Offset);
    ends[last] = end;
  }

  /** True when all of [start, end) is within one run. */
  cover(start: Offset, end: Offset): boolean {
    let at = this.#starts.length - 1;
    while (at >= 0 && (this.#starts[at] as Offset) > start) at--;
    return at >= 0 && end <= (this.#ends[at] as Offset);
  }
}
