/** Computes the progress of a stream from its counters: position, rate, and what it waits for. */
import type { Observed, Phase } from "../server/observer.ts";

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
  /** Bytes that the spool takes on the disk at this moment; 0 without one. */
  readonly spooled: number;
  /** Of a stream that is held (`--hold`): nothing is streamed yet, or all clients are done; else undefined. */
  readonly phase: Phase | undefined;
  /** Bytes per second in the last seconds: streamed, or written into the spool while nothing is streamed. */
  readonly rate: number;
  /** Seconds left at this rate; undefined if not known. */
  readonly remaining: number | undefined;
  /** What the stream waits for; undefined while it moves. */
  readonly state: string | undefined;
}

export class Watch {
  readonly #stream: Observed;
  /** Earlier samples of this phase, the oldest first; at most one is older than {@link RATE_PERIOD}. */
  readonly #samples: { readonly time: number; readonly moved: number }[] = [];
  #phase: Phase | undefined;
  /** The figures that change with progress, as a text. */
  #position = "0 0 0";
  /** When progress was last seen, in seconds. */
  #movedAt: number;

  /** @param now seconds of any clock, the same as for {@link look} */
  constructor(stream: Observed, now: number) {
    this.#stream = stream;
    this.#movedAt = now;
  }

  look(now: number): Snapshot {
    const { data, zeroes, spooled, stored } = this.#stream.counters;
    const { elapsed, stage, phase, length } = this.#stream;
    const streamed = data + zeroes;
    const position = `${streamed} ${stored} ${spooled}`;
    if (phase !== this.#phase) this.#samples.length = 0;
    this.#phase = phase;
    // The stream can only be slow while both an endpoint and a client are connected.
    const unconnected = stage === "opening" || stage === "deserted";
    if (position !== this.#position || unconnected) this.#movedAt = now;
    this.#position = position;
    const holding = phase === "holding";
    const rate = this.#rate(now, holding ? stored : streamed);
    const size = length === undefined ? null : Number(length);
    const left = size === null ? undefined : Math.max(0, size - streamed);
    // How much clients still have to say while nothing is streamed is not known.
    const remaining = left === undefined || rate === 0 || holding ? undefined : left / rate;
    return {
      streamed,
      data,
      zeroes,
      size,
      elapsed,
      spooled,
      phase,
      rate,
      remaining,
      state: this.#state(now, left),
    };
  }

  /** @param moved bytes since the phase began */
  #rate(now: number, moved: number): number {
    const { phaseElapsed } = this.#stream;
    const samples = this.#samples;
    const isOld = ({ time }: { time: number }) => time <= now - RATE_PERIOD;
    while (samples[1] !== undefined && isOld(samples[1])) samples.shift();
    const { time, moved: before } = samples[0] ?? { time: now - phaseElapsed, moved: 0 };
    samples.push({ time: now, moved });
    // The time before the first client does not count.
    const seconds = Math.min(now - time, phaseElapsed);
    return seconds > 0 ? (moved - before) / seconds : 0;
  }

  /** @param left bytes; undefined if not known */
  #state(now: number, left: number | undefined): string | undefined {
    const other = this.#stream.direction === "write" ? "reader" : "writer";
    const isStill = now - this.#movedAt >= SLOW;
    const still = this.#stream.counters.endpointAwaited ? `${other} is slow` : "nothing moves";
    switch (this.#stream.stage) {
      case "opening":
        return `waiting for a ${other}`;
      case "deserted":
        return "waiting for a client";
      case "ending":
        // The zeroes at the end, or all of a disk that was held, may take long.
        if (left !== 0 && !isStill) return undefined;
        return left !== 0 && this.#phase === "streaming" ? still : "finishing";
      case "running":
        return isStill ? still : undefined;
    }
  }
}
