/** Sets up everything that a stream needs, and cleans up behind it. */
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
import { messageOf, UserError, usageError } from "../errors.ts";
import type { DryRunFindings } from "../stream/dry-run-findings.ts";
import type { ShortStream } from "../stream/messages.ts";
import type { Entrance } from "../net/address.ts";
import type { Verdict } from "./exit-status.ts";
import { endedBefore, type StopSignal } from "./stop-signal.ts";
import type { Log } from "../log.ts";
import type { Observer } from "./observer.ts";
import type { PidFile } from "./pid-file.ts";
import { awaitEnd, type EndCondition } from "./stream-end.ts";
import { StreamServer } from "./stream-server.ts";
import type { Security } from "../tls/certificates.ts";
import type { Summary } from "./summary.ts";

export interface HostOptions {
  readonly direction: Direction;
  /** Where the stream goes, or comes from. */
  readonly spec: EndpointSpec;
  /** The stream's length in bytes; undefined is without end, or what a source itself tells. */
  readonly size: bigint | undefined;
  /** The option that needs a known length, for the message to the user; undefined is none. */
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
  /** When written: nothing gets to the spec; what the clients do is recorded instead. */
  readonly survey?: boolean;
  readonly checksum: ChecksumAlgorithm | undefined;
  /** What is likely wrong with a stream that begins with these bytes: a warning. */
  readonly doubts?: (start: Uint8Array) => string | undefined;
  readonly observer: Observer;
  readonly stopSignal: StopSignal;
  readonly workerUrl: URL;
  readonly log: Log;
}

/** How a stream has ended, and what there is to tell about it. */
export interface StreamResult extends Verdict {
  readonly summary: Summary;
  /** What a dry run has found; undefined for any other stream. */
  readonly findings: DryRunFindings | undefined;
}

/** What `body` gets to work with. */
export interface HostedStream {
  readonly server: StreamServer;
  /** Sees the stream through to its end. */
  awaitEnd(condition: EndCondition): Promise<Verdict>;
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
  // Loaded only where it is needed: that takes time.
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
          verdict = await body({
            server,
            awaitEnd: (condition) => awaitEnd({ server, endpoint, options }, condition),
            cancel: () => endpoint.cancel(),
          });
        },
        // In this order: an abort is end of file for a reader that is still there.
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
      const ended = verdict as unknown as Verdict;
      return { ...ended, summary: server.summary(ended), findings: server.end?.survey };
    },
    () => pidFile?.remove(),
    () => endpoint.remove(),
  );
}

/** Without a size the disk has no end: it cannot be padded up to it, for one. */
function requireSize({ direction, pad, exact, needsSize }: HostOptions): void {
  const who = pad ? "--pad" : exact ? "--exact" : needsSize;
  if (who === undefined) return;
  const what = direction === "read" ? "source" : "stream";
  const remedy = "give the exact size of the disk, such as size=10G";
  throw usageError(`${who} needs size=: the length of the ${what} is not known; ${remedy}`);
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
      options.log.warn(
        `the length of ${endpoint.name} is not known: most clients that copy need size=`,
      );
    }
    return { server: startServer(options, endpoint, size), size };
  } catch (error) {
    const { handle } = endpoint;
    return await cleaningUp<never>(
      () => {
        throw error;
      },
      () => endpoint.cancel(),
      // No stream thread will close it, and the process at the other end would wait for ever.
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
    const parameter = direction === "write" ? "pipe" : "read";
    const why =
      error instanceof UnusableError
        ? `${error.message}; ${error.hint}`
        : `${messageOf(error)}; check the folder and the permissions`;
    throw new UserError("ERR_PIPE", `${parameter}=${endpointText(spec)} cannot be used: ${why}`);
  }
}
