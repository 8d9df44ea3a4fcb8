/** The frame around every stream: what is made before it and cleaned up after it. */
import { close } from "../../ffi/fd.ts";
import { cleaningUp } from "../clean-up.ts";
import type { ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { Endpoint } from "../endpoint/opening/endpoint.ts";
import { openEndpoint } from "../endpoint/opening/open.ts";
import {
  type Direction,
  type EndpointSpec,
  endpointText,
  mayTellLength,
  UnusableError,
} from "../endpoint/spec.ts";
import { EXIT, messageOf } from "../errors.ts";
import type { Notice, Words } from "../messages/notice.ts";
import { NoticeError, optionError } from "../messages/notice-error.ts";
import type { Vocabulary } from "../messages/vocabulary.ts";
import { type EndSignal, signalStatus } from "../process/signals.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { Entrance } from "../net/address.ts";
import { type StreamState, type CompletedBy, incompleteReason } from "./stream-state.ts";
import { endedBefore, type StopSignal } from "./stop-signal.ts";
import type { Log } from "../log.ts";
import type { Observer } from "./observer.ts";
import type { PidFile } from "./pid-file.ts";
import { StreamServer } from "./stream-server.ts";
import type { Security } from "../tls/certificates.ts";
import type { Summary, Verdict } from "./summary.ts";

/** Milliseconds that the end of a stream may take when a signal has asked for it. */
const SIGNAL_GRACE = 500;
/** Milliseconds in which a signal is heard of that others have got at the same time. */
const SIGNAL_DELAY = 20;

export interface HostOptions {
  readonly direction: Direction;
  /** Where the stream goes, or comes from. */
  readonly spec: EndpointSpec;
  /** The stream's length in bytes; undefined is without end, or what a source itself tells. */
  readonly size: bigint | undefined;
  /** Who cannot do without a known length, for the message to the user; undefined is nobody. */
  readonly needsSize: Words | undefined;
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
  /** When written: nothing gets to the spec; what the clients do is recorded instead. */
  readonly survey?: boolean;
  readonly checksum: ChecksumAlgorithm | undefined;
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => Notice | undefined;
  readonly observer: Observer;
  readonly stopSignal: StopSignal;
  readonly workerUrl: URL;
  readonly log: Log;
  /** In whose words the summary is. */
  readonly vocabulary: Vocabulary;
}

/** How a stream has ended, and what there is to tell about it. */
export interface StreamResult extends Verdict {
  readonly summary: Summary;
}

/** What `body` gets to work with. */
export interface HostedStream {
  readonly server: StreamServer;
  /**
   * Ends a stream whose clients are all gone: well, if nothing is wrong with it.
   *
   * @param completedBy who says whether the data is all there
   */
  conclude(completedBy: CompletedBy): Promise<Verdict>;
  /** The stream ends because of the signal that has been caught. */
  interrupted(): Verdict;
  /**
   * The stream is truncated: sees to it, before anything else, that whoever takes it cannot take it for
   * whole. Otherwise it happens as soon as there is a verdict.
   */
  cancel(): Promise<void>;
}

/**
 * Runs `body` with a server for one stream. Whatever happens, nothing is left behind: no socket, no
 * thread, no process, no pid file, and no FIFO that was not there before.
 *
 * @throws UserError when something that the stream needs cannot be had
 */
export async function host(
  options: HostOptions,
  body: (stream: HostedStream) => Promise<Verdict>,
): Promise<StreamResult> {
  const { direction, size: given, spec } = options;
  // Before anything is started or connected to, where that could not tell either.
  if (given === undefined && !(direction === "read" && mayTellLength(spec))) requireSize(options);
  // Only where there is one: the others need not wait for it to be loaded.
  const pidFiles = options.pidFile === undefined ? undefined : await import("./pid-file.ts");
  if (options.pidFile !== undefined) pidFiles?.requirePidFile(options.pidFile);
  const endpoint = await prepare(options);
  let pidFile: PidFile | undefined;
  return await cleaningUp(
    async () => {
      const { server, size } = await begin(options, endpoint);
      const { stopSignal, observer } = options;
      endpoint.follow?.(() => server.counters.emitted);
      const unsubscribe = stopSignal.subscribe(() => server.poke());
      let verdict: Verdict | undefined;
      await cleaningUp(
        async () => {
          if (pidFiles !== undefined) pidFile = new pidFiles.PidFile(options.pidFile as string);
          observer.watch(server, { direction, size }, server.uri);
          const judged = await body({
            server,
            conclude: (completedBy) =>
              conclude(server, endpoint, { ...options, size }, completedBy),
            interrupted: () => interrupted(stopSignal),
            cancel: () => endpoint.cancel(),
          });
          verdict = await explained(judged, server, endpoint, stopSignal);
        },
        // The order matters: an abort is end of file for whoever still reads.
        async () => {
          if (verdict === undefined || verdict.why !== undefined) await endpoint.cancel();
        },
        () => {
          if (!server.state.ended) server.abort();
        },
        () => server.close(),
        unsubscribe,
        () => observer.end(),
      );
      return ending(verdict as Verdict, server);
    },
    () => pidFile?.remove(),
    () => endpoint.remove(),
  );
}

function ending(verdict: Verdict, server: StreamServer): StreamResult {
  return { ...verdict, summary: server.summary(verdict) };
}

/** Without a size the disk has no end: it cannot be padded up to it, for one. */
function requireSize({ direction, pad, exact, needsSize }: HostOptions): void {
  const option = pad ? "pad" : exact ? "exact" : undefined;
  const who: Words | undefined =
    option === undefined ? needsSize : { code: "OPTION", option, value: true };
  if (who !== undefined) throw optionError({ code: "SIZE_NEEDED", direction, who });
}

/** Starts the server; without one, the endpoint is let go like that of a truncated stream. */
async function begin(
  options: HostOptions,
  endpoint: Endpoint,
): Promise<{ server: StreamServer; size: bigint | undefined }> {
  try {
    const size = options.size ?? endpoint.length;
    if (options.direction === "read" && size === undefined) {
      requireSize(options);
      options.log.warn({ code: "LENGTH_UNKNOWN", source: endpoint.name });
    }
    return { server: startServer(options, endpoint, size), size };
  } catch (error) {
    const { handle } = endpoint;
    return await cleaningUp<never>(
      () => {
        throw error;
      },
      () => endpoint.cancel(),
      // There is no stream thread that would do it: whoever is at the other end would wait for ever.
      () => {
        if (handle.kind !== "fifo") close(handle.fd);
      },
    );
  }
}

function startServer(
  options: HostOptions,
  endpoint: Endpoint,
  size: bigint | undefined,
): StreamServer {
  const { direction, window, checksum, pad, exact, idleTimeout } = options;
  return new StreamServer({
    ...options,
    endpoint,
    stop: options.stopSignal.stop,
    plan: {
      direction,
      endpoint: endpoint.handle,
      size,
      window,
      reconnect: options.reconnect !== undefined,
      idleTimeout: idleTimeout === undefined ? undefined : idleTimeout * 1000,
      checksum,
      pad,
      exact,
      settles: endpoint.settles,
      survey: options.survey === true,
    },
  });
}

async function prepare({ spec, direction, size, stopSignal }: HostOptions): Promise<Endpoint> {
  try {
    return await openEndpoint(spec, direction, size, stopSignal);
  } catch (error) {
    if (stopSignal.caught !== undefined) throw endedBefore(stopSignal.caught);
    const unusable = error instanceof UnusableError;
    throw new NoticeError("ERR_PIPE", {
      code: "ENDPOINT_UNUSABLE",
      direction,
      endpoint: endpointText(spec),
      why: messageOf(error),
      hint: unusable ? error.hint : "check the folder and the permissions",
      file: unusable ? error.file : undefined,
    });
  }
}

async function conclude(
  server: StreamServer,
  endpoint: Endpoint,
  { direction, size, short, stopSignal, entrance }: HostOptions,
  completedBy: CompletedBy,
): Promise<Verdict> {
  const { state } = server;
  const missing = incompleteReason(state, completedBy, size);
  if (missing !== undefined) return verdictOn(state, missing);
  server.finish(size === undefined ? "allow" : short);
  // All is there and only has to get out. nbdcopy sends a signal at this point, and then waits; from
  // others it is a wish to end soon, and a second one a wish to end now.
  const patience = entrance.kind === "activated" ? undefined : SIGNAL_GRACE;
  const stop = new AbortController();
  void (async () => {
    await server.until(() => stopSignal.caught !== undefined);
    await server.until(() => stopSignal.count > 1, patience);
    stop.abort();
    server.poke();
  })();
  await server.until(() => state.ended || stop.signal.aborted);
  if (!state.ended) return interrupted(stopSignal);
  const lost = incompleteReason(state, completedBy, size);
  if (lost !== undefined) return verdictOn(state, lost);
  // What is left of a source that nobody wants any more has nothing to say.
  if (direction === "read" && !state.sourceEnded) {
    await endpoint.cancel();
    return verdictOn(state, undefined);
  }
  const problem = await endpoint.settle(stop.signal);
  if (problem === undefined) return verdictOn(state, undefined);
  return stop.signal.aborted
    ? interrupted(stopSignal)
    : verdictOn(state, { code: "ENDPOINT_FAILED", problem });
}

/** A verdict together with what the ends of other processes have to say about it. */
async function explained(
  verdict: Verdict,
  server: StreamServer,
  endpoint: Endpoint,
  stopSignal: StopSignal,
): Promise<Verdict> {
  const { why } = verdict;
  if (why === undefined || why.code === "STOPPED") return verdict;
  const { failure } = server.state;
  const how =
    failure?.code === "READER_GONE" && why === failure ? await endpoint.howItEnded?.() : undefined;
  const { killedBy } = endpoint;
  if (killedBy !== undefined || verdict.status > 128) {
    // A signal may be for all processes alike, as Ctrl-C is for a captive command, and then their ends
    // may be heard of first.
    await server.until(() => stopSignal.caught !== undefined, SIGNAL_DELAY);
    const { caught } = stopSignal;
    const isTheirs = (signal: EndSignal) =>
      signal === killedBy || signalStatus(signal) === verdict.status;
    if (caught !== undefined && isTheirs(caught)) return interrupted(stopSignal);
  }
  if (failure === undefined || how === undefined) return verdict;
  return { ...verdict, why: { code: "READER_ENDED", failure, how } };
}

/** @param why the stream is truncated, if it is @throws what has been the end of the stream thread */
function verdictOn({ crash }: StreamState, why: Notice | undefined): Verdict {
  if (crash !== undefined) throw crash;
  return { status: why === undefined ? EXIT.COMPLETE : EXIT.TRUNCATED, why };
}

function interrupted({ caught }: StopSignal): Verdict {
  const signal = caught ?? "SIGTERM";
  return { status: signalStatus(signal), why: { code: "STOPPED", signal } };
}
