/** Records the requests of clients, and which windows would have sufficed for them, or whether a spool would. */
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_OK } from "../../protocol/constants.ts";
import { advertisedSize } from "../../protocol/export.ts";
import { add, max, min, type Offset, subtract } from "../../protocol/offset.ts";
import type { Request } from "../../protocol/request.ts";
import { describe } from "../failure.ts";
import type { BackwardRequest, DryRunFindings, Tally } from "../messages.ts";
import type { SpoolFile } from "../spool-file.ts";
import { SPOOL, WindowTrial } from "./window-trial.ts";

/**
 * The windows that are tried, in bytes: none, and the powers of two from 1 MiB to 1 GiB. For a client that needs
 * more than that a spool is the better choice.
 */
const WINDOWS = [0, ...Array.from({ length: 11 }, (_, i) => 2 ** (20 + i))];

/** The most backward requests that are remembered one by one. */
const MOST_PLACES = 8;

class Count implements Tally {
  requests = 0;
  bytes = 0;

  add(length: Offset): void {
    this.requests++;
    this.bytes += Number(length);
  }

  get tally(): Tally {
    return { requests: this.requests, bytes: this.bytes };
  }
}

/**
 * Takes requests in any order, and counts them. A READ gets the reply of a stream with one of the windows, or with
 * a spool; what would have replied otherwise is ruled out.
 */
export class WriteLog {
  /** The size of the disk in bytes: whole sectors. */
  readonly advertised: Offset;
  /** How far the data has come. */
  front: Offset = 0;
  /** How far writes and zeroes have come. */
  end: Offset = 0;
  /** A WRITE has come before the one before it was answered. */
  concurrent = false;
  flushes = 0;
  readonly #size: Offset;
  readonly #trials: readonly WindowTrial[];
  readonly #writes = new Count();
  readonly #zeroes = new Count();
  readonly #gaps = new Count();
  readonly #backward = new Count();
  readonly #reads = new Count();
  readonly #readsHeld = new Count();
  readonly #readsBack = new Count();
  /** The trial whose replies clients get. */
  readonly #answering: WindowTrial;
  readonly #windowless: WindowTrial;
  readonly #spool: WindowTrial;
  /** A larger window, or a spool, was ruled out only by its replies. */
  #undecided = false;
  readonly #places: BackwardRequest[] = [];
  #farthest: Offset = 0;

  /**
   * @param size the stream's length in bytes
   * @param window of the stream that replies, in bytes: one of those that are tried
   * @param file of the spool of the stream that replies, in place of the window
   */
  constructor(size: Offset, window: number, file?: SpoolFile) {
    this.#size = size;
    this.advertised = advertisedSize(size);
    const kept = file === undefined ? [0, window] : [0];
    this.#spool = new WindowTrial(size, SPOOL, file !== undefined, file);
    const windows = WINDOWS.map((each) => new WindowTrial(size, each, kept.includes(each)));
    this.#trials = [...windows, this.#spool];
    const withWindow = (wanted: number) =>
      windows.find((trial) => trial.window === wanted) as WindowTrial;
    this.#windowless = withWindow(0);
    this.#answering = file === undefined ? withWindow(window) : this.#spool;
  }

  /** The number of READs below the head. */
  get readsBack(): number {
    return this.#readsBack.requests;
  }

  /** A WRITE of at least one byte. @returns NBD_OK, or NBD_ENOSPC past the end */
  write(request: Request): number {
    const { offset, payload: length } = request;
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    this.#writes.add(length);
    if (offset > this.end) this.#gaps.add(subtract(offset, this.end));
    if (offset < this.front) this.#goesBack(request);
    for (const trial of this.#trials) trial.write(offset, length);
    this.front = max(this.front, min(end, this.#size));
    this.end = max(this.end, this.front);
    return NBD_OK;
  }

  /** A part of the payload of an admitted WRITE. @returns NBD_OK, or NBD_ENOSPC for data past the end */
  put(at: Offset, bytes: Uint8Array): number {
    this.#answering.put(at, bytes);
    const inside = Number(max(0, min(bytes.length, this.#room(at))));
    return bytes.subarray(inside).some((byte) => byte !== 0) ? NBD_ENOSPC : NBD_OK;
  }

  /** Bytes from `at` to the stream's end, behind which there may be the rest of a sector. */
  #room(at: Offset): Offset {
    return at < this.#size ? subtract(this.#size, at) : 0;
  }

  /** A WRITE_ZEROES of at least one byte. @returns the same as {@link write} */
  zero(request: Request): number {
    const { offset, length } = request;
    const end = add(offset, length);
    if (end > this.advertised) return NBD_ENOSPC;
    this.#zeroes.add(length);
    // Zeroes are not late where the stream has zeroes already.
    const late = !this.#windowless.zero(offset, length);
    for (const trial of this.#trials) {
      if (trial !== this.#windowless) trial.zero(offset, length);
    }
    if (late) this.#goesBack(request);
    this.end = max(this.end, min(end, this.#size));
    return NBD_OK;
  }

  /** A READ. @returns NBD_OK for {@link data}; NBD_EIO for what has been streamed already; NBD_EINVAL past the end */
  read({ offset, length }: Request): number {
    const answer = this.#answering.read(offset, length);
    if (answer === NBD_EINVAL) return answer;
    this.#ruleOut((trial) => trial.read(offset, length) === answer);
    this.#reads.add(length);
    if (answer === NBD_EIO) this.#readsBack.add(length);
    return answer;
  }

  /** The data of such a READ; undefined is zeroes. */
  data({ offset, length }: Request): Uint8Array | undefined {
    const data = this.#answering.data(offset, Number(length));
    if (data !== undefined) this.#readsHeld.add(length);
    return data;
  }

  /** The block status at the start of [offset, end), as of `SequentialRule.dataAt`. */
  dataAt(offset: Offset, end: Offset): [data: boolean, until: Offset] {
    const within = (trial: WindowTrial): [boolean, Offset] => {
      const [data, until] = trial.dataAt(offset);
      return [data, min(until ?? end, end)];
    };
    const answer = within(this.#answering);
    this.#ruleOut((trial) => {
      const [data, until] = within(trial);
      return data === answer[0] && until === answer[1];
    });
    return answer;
  }

  /** Rules out trials with other replies. @param same true if the client would have got the same reply */
  #ruleOut(same: (trial: WindowTrial) => boolean): void {
    for (const trial of this.#trials) {
      if (!trial.alive || trial === this.#answering || same(trial)) continue;
      trial.alive = false;
      this.#undecided ||= trial.window > this.#answering.window;
    }
  }

  get findings(): DryRunFindings {
    const spool = this.#spool;
    const fits = this.#trials.filter((trial) => trial.alive && trial !== spool);
    const [fit] = fits;
    return {
      writes: this.#writes.tally,
      zeroes: this.#zeroes.tally,
      gaps: this.#gaps.tally,
      backward: this.#backward.tally,
      places: this.#places,
      farthest: this.#farthest,
      reads: this.#reads.tally,
      readsHeld: this.#readsHeld.tally,
      readsBack: this.#readsBack.tally,
      flushes: this.flushes,
      concurrent: this.concurrent,
      end: this.end,
      window: fit && {
        size: fit.window,
        needed: fit.needed,
        largest: (fits.at(-1) as WindowTrial).window,
      },
      spool: spool.alive ? { needed: spool.mostHeld } : undefined,
      undecided: this.#undecided,
      scattered: this.#trials.some((trial) => trial.scattered),
    };
  }

  #goesBack(request: Request): void {
    const { offset, length } = request;
    const head = this.front;
    this.#backward.add(length);
    this.#farthest = max(this.#farthest, subtract(head, offset));
    if (this.#places.length === MOST_PLACES) return;
    this.#places.push({ request: describe(request), offset, length, head });
  }
}
