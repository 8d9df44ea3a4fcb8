/** The frame around every stream: what is made before it and cleaned up after it. */
import { basename } from "node:path";
import type { ChecksumAlgorithm } from "../endpoint/checksum-sink.ts";
import type { Destination } from "../endpoint/destination.ts";
import { openDestination, type Target } from "../endpoint/target.ts";
import { UnusableError } from "../endpoint/unusable.ts";
import { EXIT, messageOf, UserError } from "../errors.ts";
import { UNBOUNDED_SIZE } from "../protocol/export.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { Address } from "./address.ts";
import { type Judge, shortcoming } from "./facts.ts";
import type { Log } from "./log.ts";
import { PidFile } from "./pid-file.ts";
import { Service } from "./service.ts";
import { type Signals, signalStatus } from "./signals.ts";
import {
  removeReport,
  reportSummary,
  type SummaryFormat,
  type Verdict,
  writeChecksum,
} from "./summary.ts";

/** Milliseconds that the end of a stream may take when a signal has asked for it. */
const SIGNAL_GRACE = 500;

export interface HostOptions {
  /** Where the stream goes. */
  readonly target: Target;
  /** The stream's length in bytes; undefined is without end. */
  readonly size: bigint | undefined;
  readonly address: Address;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  /** What a stream is that ends below `size`. */
  readonly short: ShortStream;
  /** Bytes that may be held in memory ahead of their turn; 0 is none. */
  readonly window: number;
  /** Seconds that a client whose connection is lost has to come back; undefined is none. */
  readonly reconnect: number | undefined;
  /** Seconds to wait for a reader of a FIFO; undefined is as long as it takes. */
  readonly readerTimeout: number | undefined;
  /** Where to write the process id once clients can connect. */
  readonly pidFile: string | undefined;
  readonly checksum: ChecksumAlgorithm | undefined;
  /** Where to write the checksum of a complete stream as `sha256sum` would. */
  readonly checksumFile: string | undefined;
  readonly summary: SummaryFormat;
  readonly signals: Signals;
  readonly workerUrl: URL;
  readonly log: Log;
}

/** What `body` gets to work with. */
export interface Hosted {
  readonly service: Service;
  /**
   * Ends a stream whose clients are all gone: well, if nothing is wrong with it.
   *
   * @param judge who says whether the data is all there
   */
  conclude(judge: Judge): Promise<Verdict>;
  /** The stream ends because of the signal that has been caught. */
  interrupted(): Verdict;
}

/**
 * Runs `body` with a service for one stream, and reports how it ended. Whatever happens, nothing is
 * left behind: no socket, no thread, no process, no pid file, and no FIFO that was not there before.
 *
 * @returns the exit status
 * @throws UserError when something that the stream needs cannot be had
 */
export async function host(
  options: HostOptions,
  body: (hosted: Hosted) => Promise<Verdict>,
): Promise<number> {
  // A report of an earlier stream must not stand for this one.
  if (options.checksumFile !== undefined) removeReport(options.checksumFile);
  if (options.summary.kind === "json" && options.summary.file !== undefined) {
    removeReport(options.summary.file);
  }
  const destination = await prepare(options);
  let pidFile: PidFile | undefined;
  try {
    const service = new Service({
      ...options,
      sink: destination.spec,
      sinkName: destination.name,
      size: options.size ?? UNBOUNDED_SIZE,
    });
    const unsubscribe = options.signals.subscribe(() => service.poke());
    let verdict: Verdict | undefined;
    try {
      if (options.pidFile !== undefined) pidFile = new PidFile(options.pidFile);
      verdict = await body({
        service,
        conclude: (judge) => conclude(service, destination, options, judge),
        interrupted: () => interrupted(options.signals),
      });
    } finally {
      unsubscribe();
      // The order matters: an abort is end of file for whoever still reads.
      if (verdict === undefined || verdict.why !== undefined) await destination.cancel();
      if (!service.facts.ended) service.abort();
      await service.close();
    }
    const summary = service.summary(verdict);
    if (options.checksumFile !== undefined && summary.complete) {
      const subject = basename(destination.name);
      writeChecksum(summary, { file: options.checksumFile, subject }, options.log);
    }
    reportSummary(summary, options.summary, options.log);
    return verdict.status;
  } finally {
    pidFile?.remove();
    destination.remove();
  }
}

async function prepare({ target, size }: HostOptions): Promise<Destination> {
  try {
    return await openDestination(target, size);
  } catch (error) {
    const name = targetName(target);
    const why =
      error instanceof UnusableError
        ? `${error.message}; ${error.hint}`
        : `${messageOf(error)}; check the folder and its permissions`;
    throw new UserError("ERR_PIPE", `pipe=${name} cannot be used: ${why}`);
  }
}

function targetName(target: Target): string {
  switch (target.kind) {
    case "path":
      return target.path;
    case "descriptor":
      return target.fd === 1 ? "-" : target.name;
    case "tcp":
      return `tcp:${target.host}:${target.port}`;
    case "exec":
      return `exec:${target.command}`;
  }
}

async function conclude(
  service: Service,
  destination: Destination,
  { size, short, signals }: HostOptions,
  judge: Judge,
): Promise<Verdict> {
  const { facts } = service;
  let why = shortcoming(facts, judge, size);
  if (why === undefined) {
    service.finish(size === undefined ? "allow" : short);
    if (signals.caught !== undefined) await service.until(() => facts.ended, SIGNAL_GRACE);
    else await service.until(() => facts.ended || signals.caught !== undefined);
    if (!facts.ended) return interrupted(signals);
    why = shortcoming(facts, judge, size) ?? (await destination.settle(signals.stop));
  }
  if (facts.crash !== undefined) throw facts.crash;
  return { status: why === undefined ? EXIT.COMPLETE : EXIT.TRUNCATED, why };
}

function interrupted({ caught }: Signals): Verdict {
  const signal = caught ?? "SIGTERM";
  return { status: signalStatus(signal), why: `ended by ${signal}` };
}
