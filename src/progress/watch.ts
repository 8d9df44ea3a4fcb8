/** Computes the progress of a stream from its counters: position, rate, and what it waits for. */
import type { Observed, StreamKind } from "../server/observer.ts";

/** The rate is the mean of so many seconds. */
const RATE_PERIOD = 5;

/**
 * Seconds without progress, while a client is connected, after which the state says so. The endpoint is
 * called slow only if a request waits for it. A client is not called slow: it may be busy with data
 * that the window holds, with zeroes that are written later, or with what it has read.
 */
const SLOW = 2;

/** The progress of a stream at one moment. */
export interface Snapshot {
  /** Bytes that the sink has accepted, or that clients have read or skipped; of these, data and zeroes. */
  readonly streamed: number;
  readonly data: number;
  readonly zeroes: number;
  /** The stream's length in bytes; null if not known. */
  readonly size: number | null;
  /** Seconds since the first client connected. */
  readonly elapsed: number;
  /** Bytes per second in the last seconds. */
  readonly rate: number;
  /** Seconds left at this rate; undefined if not known. */
  readonly remaining: number | undefined;
  /** What the stream waits for; undefined while it moves. */
  readonly state: string | undefined;
}

export class Watch {
  readonly #stream: Observed;
  readonly #kind: StreamKind;
  /** Earlier samples, the oldest first; at most one is older than {@link RATE_PERIOD}. */
  readonly #samples: { readonly time: number; readonly streamed: number }[] = [];
  #streamed = 0;
  /** When progress was last seen, in seconds. */
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
    // The stream can only be slow while both an endpoint and a client are connected.
    const unconnected = stage === "opening" || stage === "deserted";
    if (streamed !== this.#streamed || unconnected) this.#movedAt = now;
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
    const samples = this.#samples;
    const isOld = ({ time }: { time: number }) => time <= now - RATE_PERIOD;
    while (samples[1] !== undefined && isOld(samples[1])) samples.shift();
    const { time, streamed: before } = samples[0] ?? { time: now - elapsed, streamed: 0 };
    samples.push({ time: now, streamed });
    // The time before the first client does not count.
    const seconds = Math.min(now - time, elapsed);
    return seconds > 0 ? (streamed - before) / seconds : 0;
  }

  /** @param left bytes; undefined if not known */
  #state(now: number, left: number | undefined): string | undefined {
    const other = this.#kind.direction === "write" ? "reader" : "writer";
    switch (this.#stream.stage) {
      case "opening":
        return `waiting for a ${other}`;
      case "deserted":
        return "waiting for a client";
      case "ending":
        // The zeroes at the end may take long.
        return left !== 0 && now - this.#movedAt < SLOW ? undefined : "finishing";
      case "running":
        if (now - this.#movedAt < SLOW) return undefined;
        return this.#stream.counters.endpointAwaited ? `${other} is slow` : "nothing moves";
    }
  }
}
