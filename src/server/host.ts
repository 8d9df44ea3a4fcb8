/** The frame around every stream: what is made before it and cleaned up after it. */
import { close } from "../../ffi/fd.ts";
import { cleaningUp } from "../clean-up.ts";
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { FarEnd } from "../endpoint/prepare/far-end.ts";
import { mayTellLength, openFarEnd, type Target, targetText } from "../endpoint/prepare/target.ts";
import { UnusableError } from "../endpoint/prepare/unusable.ts";
import type { Direction } from "../endpoint/spec.ts";
import { EXIT, messageOf, UserError, usageError } from "../errors.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { Entrance } from "./address.ts";
import { type Facts, type Judge, shortcoming } from "./facts.ts";
import { endedBefore, type Interruption } from "./interruption.ts";
import type { Log } from "./log.ts";
import type { Observer } from "./observer.ts";
import type { PidFile } from "./pid-file.ts";
import { Service } from "./service.ts";
import type { Security } from "./tls.ts";
import type { Summary, Verdict } from "./summary.ts";

/** Milliseconds that the end of a stream may take when a signal has asked for it. */
const SIGNAL_GRACE = 500;
/** Milliseconds in which a signal is heard of that others have got at the same time. */
const SIGNAL_DELAY = 20;

export interface HostOptions {
  readonly direction: Direction;
  /** Where the stream goes, or comes from. */
  readonly target: Target;
  /** The stream's length in bytes; undefined is without end, or what a source itself tells. */
  readonly size: bigint | undefined;
  /** Who cannot do without a known length, for the message to the user; undefined is nobody. */
  readonly needsSize: string | undefined;
  readonly entrance: Entrance;
  /** The only export name; undefined admits every name. */
  readonly exportName: string | undefined;
  /** What a stream is that ends below `size`. */
  readonly short: ShortStream;
  /** When read: zeroes take the place of what a source that ends early has not. */
  readonly pad: boolean;
  /** When read: a source that is longer than `size` is an error. */
  readonly exact: boolean;
  /** Bytes held in memory, when written ahead of their turn, when read behind it; 0 is none. */
  readonly window: number;
  readonly security: Security;
  /** Seconds that negotiation may take. */
  readonly negotiationTimeout: number;
  /** Seconds that a client may stop for in the middle of a request; undefined is for ever. */
  readonly idleTimeout: number | undefined;
  /** Clients that may be connected at a time. */
  readonly maxConnections: number;
  /** Seconds that a client whose connection is lost has to come back; undefined is none. */
  readonly reconnect: number | undefined;
  /** Seconds to wait for the other end of a FIFO; undefined is as long as it takes. */
  readonly openTimeout: number | undefined;
  /** Where to write the process id once clients can connect. */
  readonly pidFile: string | undefined;
  /** When written: nothing gets to the target; what the clients do is recorded instead. */
  readonly survey?: boolean;
  readonly checksum: ChecksumAlgorithm | undefined;
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => string | undefined;
  readonly observer: Observer;
  readonly interruption: Interruption;
  readonly workerUrl: URL;
  readonly log: Log;
}

/** How a stream has ended, and what there is to tell about it. */
export interface Outcome extends Verdict {
  readonly summary: Summary;
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
  /**
   * The stream is truncated: sees to it, before anything else, that whoever takes it cannot take it for
   * whole. Otherwise it happens as soon as there is a verdict.
   */
  cancel(): Promise<void>;
}

/**
 * Runs `body` with a service for one stream. Whatever happens, nothing is left behind: no socket, no
 * thread, no process, no pid file, and no FIFO that was not there before.
 *
 * @throws UserError when something that the stream needs cannot be had
 */
export async function host(
  options: HostOptions,
  body: (hosted: Hosted) => Promise<Verdict>,
): Promise<Outcome> {
  const { direction, size: given, target } = options;
  // Before anything is started or connected to, where that could not tell either.
  if (given === undefined && !(direction === "read" && mayTellLength(target))) requireSize(options);
  // Only where there is one: the others need not wait for it to be loaded.
  const pidFiles = options.pidFile === undefined ? undefined : await import("./pid-file.ts");
  if (options.pidFile !== undefined) pidFiles?.requirePidFile(options.pidFile);
  const farEnd = await prepare(options);
  let pidFile: PidFile | undefined;
  return await cleaningUp(
    async () => {
      const { service, size } = await begin(options, farEnd);
      const { interruption, observer } = options;
      farEnd.follow?.(() => service.counters.emitted);
      const unsubscribe = interruption.subscribe(() => service.poke());
      let verdict: Verdict | undefined;
      await cleaningUp(
        async () => {
          if (pidFiles !== undefined) pidFile = new pidFiles.PidFile(options.pidFile as string);
          observer.watch(service, { direction, size }, service.uri);
          const judged = await body({
            service,
            conclude: (judge) => conclude(service, farEnd, { ...options, size }, judge),
            interrupted: () => interrupted(interruption),
            cancel: () => farEnd.cancel(),
          });
          verdict = await explained(judged, service, farEnd, interruption);
        },
        // The order matters: an abort is end of file for whoever still reads.
        async () => {
          if (verdict === undefined || verdict.why !== undefined) await farEnd.cancel();
        },
        () => {
          if (!service.facts.ended) service.abort();
        },
        () => service.close(),
        unsubscribe,
        () => observer.end(),
      );
      return ending(verdict as Verdict, service);
    },
    () => pidFile?.remove(),
    () => farEnd.remove(),
  );
}

function ending(verdict: Verdict, service: Service): Outcome {
  return { ...verdict, summary: service.summary(verdict) };
}

/** Without a size the disk has no end: it cannot be padded up to it, for one. */
function requireSize({ direction, pad, exact, needsSize }: HostOptions): void {
  const who = pad ? "--pad" : exact ? "--exact" : needsSize;
  if (who === undefined) return;
  const what = direction === "read" ? "source" : "stream";
  const remedy = "give the exact size of the disk, such as size=10G";
  throw usageError(`${who} needs size=: the length of the ${what} is not known; ${remedy}`);
}

/** Starts the service; without one, the far end is let go like that of a truncated stream. */
async function begin(
  options: HostOptions,
  farEnd: FarEnd,
): Promise<{ service: Service; size: bigint | undefined }> {
  try {
    const size = options.size ?? farEnd.length;
    if (options.direction === "read" && size === undefined) {
      requireSize(options);
      options.log.warn(
        `the length of ${farEnd.name} is not known: most clients that copy need size=`,
      );
    }
    return { service: startService(options, farEnd, size), size };
  } catch (error) {
    const { spec } = farEnd;
    return await cleaningUp<never>(
      () => {
        throw error;
      },
      () => farEnd.cancel(),
      // There is no stream thread that would do it: whoever is at the other end would wait for ever.
      () => {
        if (spec.kind !== "fifo") close(spec.fd);
      },
    );
  }
}

function startService(options: HostOptions, farEnd: FarEnd, size: bigint | undefined): Service {
  const { direction, window, checksum, pad, exact, idleTimeout } = options;
  return new Service({
    ...options,
    farEnd,
    stop: options.interruption.stop,
    plan: {
      direction,
      endpoint: farEnd.spec,
      size,
      window,
      reconnect: options.reconnect !== undefined,
      idleTimeout: idleTimeout === undefined ? undefined : idleTimeout * 1000,
      checksum,
      pad,
      exact,
      settles: farEnd.settles,
      survey: options.survey === true,
    },
  });
}

async function prepare({ target, direction, size, interruption }: HostOptions): Promise<FarEnd> {
  try {
    return await openFarEnd(target, direction, size, interruption);
  } catch (error) {
    if (interruption.caught !== undefined) throw endedBefore(interruption.caught);
    const parameter = direction === "write" ? "pipe" : "read";
    const why =
      error instanceof UnusableError
        ? `${error.message}; ${error.hint}`
        : `${messageOf(error)}; check the folder and the permissions`;
    throw new UserError("ERR_PIPE", `${parameter}=${targetText(target)} cannot be used: ${why}`);
  }
}

async function conclude(
  service: Service,
  farEnd: FarEnd,
  { direction, size, short, interruption, entrance }: HostOptions,
  judge: Judge,
): Promise<Verdict> {
  const { facts } = service;
  const missing = shortcoming(facts, judge, size);
  if (missing !== undefined) return verdictOn(facts, missing);
  service.finish(size === undefined ? "allow" : short);
  // All is there and only has to get out. nbdcopy sends a signal at this point, and then waits; from
  // others it is a wish to end soon, and a second one a wish to end now.
  const patience = entrance.kind === "activated" ? undefined : SIGNAL_GRACE;
  const stop = new AbortController();
  void (async () => {
    await service.until(() => interruption.caught !== undefined);
    await service.until(() => interruption.count > 1, patience);
    stop.abort();
    service.poke();
  })();
  await service.until(() => facts.ended || stop.signal.aborted);
  if (!facts.ended) return interrupted(interruption);
  const lost = shortcoming(facts, judge, size);
  if (lost !== undefined) return verdictOn(facts, lost);
  // What is left of a source that nobody wants any more has nothing to say.
  if (direction === "read" && !facts.sourceEnded) {
    await farEnd.cancel();
    return verdictOn(facts, undefined);
  }
  const problem = await farEnd.settle(stop.signal);
  return stop.signal.aborted && problem !== undefined
    ? interrupted(interruption)
    : verdictOn(facts, problem);
}

/** A verdict together with what the ends of other processes have to say about it. */
async function explained(
  verdict: Verdict,
  service: Service,
  farEnd: FarEnd,
  interruption: Interruption,
): Promise<Verdict> {
  const { why } = verdict;
  if (why === undefined || why === interrupted(interruption).why) return verdict;
  const { failure } = service.facts;
  const gone = failure?.code === "READER_GONE" && why === failure.message;
  const how = gone ? await farEnd.howItEnded?.() : undefined;
  const { killedBy } = farEnd;
  if (killedBy !== undefined || verdict.status > 128) {
    // A signal may be for all processes alike, as Ctrl-C is for a captive command, and then their ends
    // may be heard of first.
    await service.until(() => interruption.caught !== undefined, SIGNAL_DELAY);
    const { caught } = interruption;
    const isTheirs = (signal: EndSignal) =>
      signal === killedBy || signalStatus(signal) === verdict.status;
    if (caught !== undefined && isTheirs(caught)) return interrupted(interruption);
  }
  return how === undefined ? verdict : { ...verdict, why: `${why}; it ${how}` };
}

/** @param why the stream is truncated, if it is @throws what has been the end of the stream thread */
function verdictOn({ crash }: Facts, why: string | undefined): Verdict {
  if (crash !== undefined) throw crash;
  return { status: why === undefined ? EXIT.COMPLETE : EXIT.TRUNCATED, why };
}

function interrupted({ caught }: Interruption): Verdict {
  const signal = caught ?? "SIGTERM";
  return { status: signalStatus(signal), why: `ended by ${signal}` };
}
