/** Looking at a stream again and again: how far it is, how fast, and whom it waits for. */
import type { Observed, StreamKind } from "../server/observer.ts";

/** Seconds of the past that the rate is taken from. */
const RECENT = 5;

/**
 * Seconds without a byte moving, while a client is connected, after which that is said: that the far
 * end is slow where a request cannot go on without it. Of a client it would be too much to say that: it
 * may be busy with what is held in the window, with zeroes that come out later, or with what it has read.
 */
const SLOW = 2;

/** A stream at one moment. */
export interface Snapshot {
  /** Bytes that the sink has accepted, or that clients have gone through; of these, data and zeroes. */
  readonly streamed: number;
  readonly data: number;
  readonly zeroes: number;
  /** The stream's length in bytes; null when it is not known. */
  readonly size: number | null;
  /** Seconds since the first client came. */
  readonly elapsed: number;
  /** Bytes per second of late. */
  readonly rate: number;
  /** Seconds that are left at this rate; undefined when there is no telling. */
  readonly remaining: number | undefined;
  /** Whom the stream waits for; undefined while it moves. */
  readonly state: string | undefined;
}

export class Watch {
  readonly #stream: Observed;
  readonly #kind: StreamKind;
  /** Earlier looks, the oldest first: one that is older than `RECENT` at the most. */
  readonly #past: { readonly time: number; readonly streamed: number }[] = [];
  #streamed = 0;
  /** When something was last found to have moved, in seconds. */
  #movedAt: number;

  /** @param now seconds of any clock, the same as for {@link look} */
  constructor(stream: Observed, kind: StreamKind, now: number) {
    this.#stream = stream;
    this.#kind = kind;
    this.#movedAt = now;
  }

  look(now: number): Snapshot {
    const { data, zeroes } = this.#stream.counters;
    const { elapsed, stage } = this.#stream;
    const streamed = data + zeroes;
    // Silence counts from the moment from which somebody has been expected to do something.
    const nobody = stage === "opening" || stage === "deserted";
    if (streamed !== this.#streamed || nobody) this.#movedAt = now;
    this.#streamed = streamed;
    const rate = this.#rate(now, streamed, elapsed);
    const size = this.#kind.size === undefined ? null : Number(this.#kind.size);
    const left = size === null ? undefined : Math.max(0, size - streamed);
    const remaining = left === undefined || rate === 0 ? undefined : left / rate;
    return {
      streamed,
      data,
      zeroes,
      size,
      elapsed,
      rate,
      remaining,
      state: this.#state(now, left),
    };
  }

  #rate(now: number, streamed: number, elapsed: number): number {
    const past = this.#past;
    while (past.length > 1 && (past[1] as { time: number }).time <= now - RECENT) past.shift();
    const { time, streamed: before } = past[0] ?? { time: now - elapsed, streamed: 0 };
    past.push({ time: now, streamed });
    // Before the first client there was nothing to move.
    const seconds = Math.min(now - time, elapsed);
    return seconds > 0 ? (streamed - before) / seconds : 0;
  }

  /** @param left bytes; undefined when that is not known */
  #state(now: number, left: number | undefined): string | undefined {
    const other = this.#kind.direction === "write" ? "reader" : "writer";
    switch (this.#stream.stage) {
      case "opening":
        return `waiting for a ${other}`;
      case "deserted":
        return "waiting for a client";
      case "ending":
        // Zeroes may go on for long.
        return left !== 0 && now - this.#movedAt < SLOW ? undefined : "finishing";
      case "running":
        if (now - this.#movedAt < SLOW) return undefined;
        return this.#stream.counters.endpointAwaited ? `${other} is slow` : "nothing moves";
    }
  }
}
