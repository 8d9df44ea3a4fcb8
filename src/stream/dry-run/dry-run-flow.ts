/** A stream that goes nowhere, to see what clients do with it. */
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import type { Flow, Side } from "../flow.ts";
import type { Ended, StreamEvent } from "../messages.ts";
import { WriteLog } from "../dry-run/write-log.ts";
import { DryRunSide } from "./dry-run-side.ts";

export interface DryRunFlowOptions {
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Of the stream that it is to be like for who reads, in bytes: so much may be held in memory. */
  readonly window: number;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

/**
 * Takes writes in any order, so that a client that a real stream would stop at its first backward
 * write goes on and shows all of them. What each window would have made of them is found out by the
 * rule that real streams have; and one of these windows is there, so that READs are answered as it
 * would.
 */
export class DryRunFlow implements Flow {
  readonly failure = undefined;
  isOpen = false;
  readonly ready = true;
  readonly fd = -1;
  /** Simple replies, and now and then a little more. */
  readonly repliesCapacity = 8192;
  readonly finishInterval = 0;
  readonly #record: WriteLog;
  readonly #options: DryRunFlowOptions;

  constructor(options: DryRunFlowOptions) {
    this.#options = options;
    this.#record = new WriteLog(options.size, options.window);
  }

  get full(): boolean {
    return this.#record.end >= this.#options.size;
  }

  get mark(): string {
    return `${this.#record.front} ${this.#record.end}`;
  }

  takePart(channel: Channel): Side {
    const { counters, post } = this.#options;
    return new DryRunSide(channel, this.#record, counters, post);
  }

  open(): boolean {
    this.isOpen = true;
    return true;
  }

  events(): number {
    return -1;
  }

  finish(): boolean {
    return true;
  }

  close(): Ended {
    const { survey } = this.#record;
    const windowNeeded = survey.window?.needed ?? 0;
    return { windowNeeded, checksum: undefined, sourceEnded: false, survey };
  }

  // There is no endpoint of which anything could be told, and no client that would be waited for.
  reported(): void {}
  failed(): void {}
  readonly clientsReturn = false;
  endReconnect(): void {}
  beginFinish(): void {}
  settled(): void {}
}
