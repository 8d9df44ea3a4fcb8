/** A stream without an endpoint, to record what clients do. */
import type { EndpointError } from "../../endpoint/error.ts";
import type { Failure } from "../../messages/notice.ts";
import type { Offset } from "../../protocol/offset.ts";
import type { Channel } from "../channel.ts";
import type { Counters } from "../counters.ts";
import { spoolFailed } from "../failure.ts";
import type { Ended, StreamEvent } from "../messages.ts";
import type { SpoolFile } from "../spool-file.ts";
import type { RequestHandler, Stream } from "../stream.ts";
import { DryRunHandler } from "./dry-run-handler.ts";
import { WriteLog } from "./write-log.ts";

interface DryRunStreamOptions {
  /** The stream's length in bytes. */
  readonly size: Offset;
  /** Bytes. READs get the replies of a stream with this window, one of those that are tried. */
  readonly window: number;
  /** The same with this in place of the window; the stream closes it. */
  readonly spool: SpoolFile | undefined;
  readonly counters: Counters;
  readonly post: (event: StreamEvent) => void;
}

/**
 * Takes WRITEs in any order, so that a client whose first backward WRITE would break a real stream goes on and
 * shows all of them. The rule of real streams is tried with several windows and with a spool, of which one holds
 * the data and answers READs.
 */
export class DryRunStream implements Stream {
  failure: Failure | undefined;
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
    this.#log = new WriteLog(options.size, options.window, options.spool);
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

  /** The spool has failed. */
  endpointFailed(error: EndpointError): void {
    const { spool, counters, post } = this.#options;
    if (this.failure !== undefined || spool === undefined) return;
    this.failure = spoolFailed(spool, error, counters);
    post({ type: "broken", failure: this.failure });
  }

  close(): Ended {
    this.#options.spool?.close();
    const dryRun = this.#log.findings;
    const windowNeeded = dryRun.window?.needed ?? 0;
    return { windowNeeded, checksum: undefined, sourceEnded: false, dryRun };
  }

  // There is no endpoint that could end, and no client is waited for.
  reported(): void {}
  processExited(): void {}
  endReconnect(): void {}
  finish(): void {}
}
