/** A stream without an endpoint, to record what clients do. */
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import type { Ended, StreamEvent } from "../messages.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { DryRunHandler } from "./dry-run-handler.ts";
import { WriteLog } from "./write-log.ts";

interface DryRunStreamOptions {
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes. READs get the replies of a stream with this window, one of those that are tried. */
  readonly window: number;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

/**
 * Takes WRITEs in any order, so that a client whose first backward WRITE would break a real stream goes on and
 * shows all of them. The rule of real streams is tried with several windows, of which one holds the data and
 * answers READs.
 */
export class DryRunStream implements Stream {
  readonly failure = undefined;
  isOpen = false;
  readonly ready = true;
  readonly fd = -1;
  /** Simple replies, and now and then a little more. */
  readonly repliesCapacity = 8192;
  readonly completeInterval = 0;
  readonly clientsReturn = false;
  readonly #log: WriteLog;
  readonly #options: DryRunStreamOptions;

  constructor(options: DryRunStreamOptions) {
    this.#options = options;
    this.#log = new WriteLog(options.size, options.window);
  }

  get full(): boolean {
    return this.#log.end >= this.#options.size;
  }

  get position(): string {
    return `${this.#log.front} ${this.#log.end}`;
  }

  createHandler(channel: Channel): RequestHandler {
    const { counters, post } = this.#options;
    return new DryRunHandler(channel, this.#log, counters, post);
  }

  open(): boolean {
    this.isOpen = true;
    return true;
  }

  events(): number {
    return -1;
  }

  complete(): boolean {
    return true;
  }

  close(): Ended {
    const dryRun = this.#log.findings;
    const windowNeeded = dryRun.window?.needed ?? 0;
    return { windowNeeded, checksum: undefined, sourceEnded: false, dryRun };
  }

  // There is no endpoint that could fail or end, and no client is waited for.
  reported(): void {}
  endpointFailed(): void {}
  processExited(): void {}
  endReconnect(): void {}
  finish(): void {}
}
