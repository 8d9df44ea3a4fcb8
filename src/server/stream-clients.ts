/** The clients of one stream that are in the transmission phase, and how they have left. */
import type { Log } from "../log.ts";
import type { ConnectionEnd, StreamEvent } from "../stream/messages.ts";
import { RateLimitedWarning } from "./rate-limited-warning.ts";

export class StreamClients {
  readonly #log: Log;
  readonly #cuts: RateLimitedWarning;
  #nextId = 1;
  /** By client, the function to call when its connection has ended. */
  readonly #released = new Map<number, () => void>();
  /** When a client has left last, and one that had moved the stream, by performance.now(). */
  lastLeft = Number.NEGATIVE_INFINITY;
  lastMoverLeft = Number.NEGATIVE_INFINITY;

  constructor(log: Log) {
    this.#log = log;
    this.#cuts = new RateLimitedWarning(
      (message) => log.warn(message),
      (count) => `${count} more clients were cut off`,
    );
  }

  get count(): number {
    return this.#released.size;
  }

  /** @param released is called when its connection has ended @returns its number in the stream thread */
  add(released: () => void): number {
    const id = this.#nextId++;
    this.#released.set(id, released);
    this.#log.verbose(`client ${id} connected`);
    return id;
  }

  left({ id, end, streamed }: StreamEvent & { type: "closed" }): void {
    this.#released.get(id)?.();
    this.#released.delete(id);
    this.lastLeft = performance.now();
    if (streamed) this.lastMoverLeft = this.lastLeft;
    if (isCutOff(end)) this.#cuts.warn({ code: "CLIENT_CUT_OFF", client: id, why: end });
    else this.#log.verbose(`client ${id} ended: ${end}`);
  }

  /** The stream has ended, and closed their connections without an event for each. */
  releaseAll(): void {
    for (const released of this.#released.values()) released();
  }

  /** Tells what warnings were left out. */
  end(): void {
    this.#cuts.end();
  }
}

function isCutOff(end: ConnectionEnd): end is "garbage" | "stalled" | "displaced" {
  return end === "garbage" || end === "stalled" || end === "displaced";
}
