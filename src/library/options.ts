/** The options of `serve` and `run`, and the settings of a stream that they are resolved to, once. */
import { requireHeld } from "../captive/command.ts";
import { imagePath } from "../captive/qemu-img.ts";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from "../endpoint/checksum.ts";
import { releaseFifo } from "../endpoint/opening/fifo.ts";
import { parseEndpoint, UnusableError } from "../endpoint/spec.ts";
import { UserError, usageError } from "../errors.ts";
import { type NamedFile, requireDifferentFile } from "../files/place.ts";
import type { Words } from "../messages/notice.ts";
import { optionError } from "../messages/notice-error.ts";
import type { Option } from "../messages/vocabulary.ts";
import { type Address, type Entrance, NBD_PORT } from "../net/address.ts";
import { NBD_MAX_STRING } from "../protocol/constants.ts";
import { UNBOUNDED_SIZE } from "../protocol/export.ts";
import type { EndpointChoice, StreamSettings } from "../server/settings.ts";
import { formatSize, LARGEST_WINDOW, parseSize, type Size } from "../size.ts";
import { IN_FLIGHT, type ShortStream } from "../stream/messages.ts";
import { requireClient, requireListening } from "../systemd.ts";
import { loadCertificates, type Security } from "../tls/certificates.ts";
import { type CaptiveClient, type ClientOptions, clientOf } from "./client.ts";

/** Default values. Times are in seconds; 0 is no limit. */
export const DEFAULTS = {
  window: 0,
  /** With `spool`: enough that clients that are nearly in order do not need the disk. */
  windowWithSpool: 64 * 2 ** 20,
  negotiationTimeout: 10,
  /** Long enough to notice that a client was stopped by mistake. */
  idleTimeout: { serve: 60, run: 0 },
  maxConnections: 100,
  progressInterval: 1,
  listen: { kind: "tcp", host: "127.0.0.1", port: NBD_PORT },
} as const;

/**
 * Options of every stream. Their names are those of the command line; docs/command-line.md describes them.
 * One of `pipe` and `read` is needed.
 */
export interface StreamOptions {
  /**
   * Where the stream goes, as on the command line: a path, `-`, `fd:N`, `tcp:HOST:PORT` or
   * `exec:COMMAND`; or an open descriptor, which stays the caller's.
   */
  readonly pipe?: string | number | undefined;
  /** Where the stream comes from, in the same forms. */
  readonly read?: string | number | undefined;
  /** The stream's length. Default: what is left of the file that is read; else no end. */
  readonly size?: Size | undefined;
  /**
   * How much is held in memory: written ahead of its turn, or read and wanted again; 64 MiB with `spool`.
   * Default: 0.
   */
  readonly window?: Size | undefined;
  /** `pipe`: the folder in which what finds no room in the window is kept, in a file without a name. */
  readonly spool?: string | undefined;
  /**
   * `pipe`, with `spool`: nothing is streamed before all clients are done; until then the export is an
   * ordinary disk. Such a stream has the length of `size`, or with `pad` false ends behind the last write.
   */
  readonly hold?: boolean | undefined;
  /** Serve only this export name (and the empty one). Default: any. */
  readonly exportName?: string | undefined;
  /** Where to write the process id when clients can connect. */
  readonly pidFile?: string | undefined;
  /**
   * True lengthens a complete stream to `size` with zeroes, false lets it be shorter. Default: `run`
   * lengthens what is written, and `serve` takes a short stream for truncated.
   */
  readonly pad?: boolean | undefined;
  /** `read`: a source that is longer than `size` is an error, not only a warning. */
  readonly exact?: boolean | undefined;
  /** Seconds to wait for the other end of a FIFO. Default: as long as it takes. */
  readonly openTimeout?: number | undefined;
  /** Seconds that a client whose connection is lost has to come back. Default: none. */
  readonly reconnect?: number | undefined;
  /** Seconds from the connection to the choice of the export. Default: 10. */
  readonly negotiationTimeout?: number | undefined;
  /**
   * Seconds that a client may stop for in the middle of a request or of taking its answer, or hold up
   * others without moving anything; 0 is for ever. Default: 60 for `serve`, 0 for `run`.
   */
  readonly idleTimeout?: number | undefined;
  /** Clients at a time. Default: 100. */
  readonly maxConnections?: number | undefined;
  /** Default: without TLS. */
  readonly tls?: TlsOptions | undefined;
  /** What to checksum what is streamed by; it is in the summary. */
  readonly checksum?: ChecksumAlgorithm | undefined;
  /** Seconds between two "progress" events. Default: 1. */
  readonly progressInterval?: number | undefined;
  /**
   * Called when all that the stream needs is there, right before clients can connect and the command
   * is run. What it throws is what the stream rejects with, and nothing is streamed.
   */
  readonly beforeStart?: (() => void) | undefined;
  /** Ends the stream when it is aborted, as {@link Streaming.stop} does. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The stream thread's file. A program that is compiled into one file has to name
   * `nbd-streaming/stream.worker` as a second entry point, and to tell here where that has got to.
   */
  readonly workerUrl?: URL | undefined;
}

export interface TlsOptions {
  /** Whether clients may or must use it. */
  readonly policy: "on" | "require";
  /** The folder of `server-cert.pem`, `server-key.pem` and `ca-cert.pem`. */
  readonly certificates: string;
  /** Of the clients that use it, serve only those with a certificate of `ca-cert.pem`. */
  readonly verifyPeer?: boolean | undefined;
}

export interface ServeOptions extends StreamOptions {
  /** Where clients come from. Default: TCP port 10809 of 127.0.0.1. */
  readonly listen?: Entrance | undefined;
  /** Go on listening after a client has finished; {@link Streaming.stop} then ends the stream. */
  readonly keep?: boolean | undefined;
}

export interface RunOptions extends StreamOptions, ClientOptions {
  /** Where to listen. Default: on a private Unix socket. */
  readonly listen?: Address | undefined;
}

/** Lets messages name the options. */
declare module "../messages/vocabulary.ts" {
  interface LibraryOptions extends Record<keyof ServeOptions | keyof RunOptions, unknown> {}
}

/** The longest time of a timer, in seconds: its milliseconds are a signed 32-bit number. */
const MAX_SECONDS = 2_147_483;

/** Far more than the possible number of descriptors. */
const MAX_CONNECTIONS = 999_999;

const WORKER = new URL("../stream.worker.ts", import.meta.url);

export interface ResolvedStream extends StreamSettings {
  readonly signal: AbortSignal | undefined;
  /** Milliseconds between two "progress" events. */
  readonly progressInterval: number;
  /** The endpoint, the Unix socket, the image and the pid file: a report must not overwrite them. */
  readonly files: readonly NamedFile[];
}

/** What all streams of a server have in common. */
export type ServerSettings = Pick<
  ResolvedStream,
  "security" | "maxConnections" | "negotiationTimeout" | "progressInterval"
>;

export interface ResolvedServe extends ResolvedStream {
  readonly keep: boolean;
}

export interface ResolvedRun extends Omit<ResolvedStream, "entrance"> {
  /** Where to listen; undefined is a private Unix socket. */
  readonly address: Address | undefined;
  readonly client: CaptiveClient;
}

/**
 * @param server for one of several streams
 * @throws UserError ERR_USAGE, ERR_TLS; processes that wait at the FIFO are released then
 */
export function resolveServe(options: ServeOptions, server?: ServerSettings): ResolvedServe {
  return resolving(options, (endpoint) => {
    const entrance = options.listen ?? DEFAULTS.listen;
    if (entrance.kind === "single") requireClient();
    if (entrance.kind === "activated") requireListening(entrance.fd);
    const idle = options.idleTimeout ?? DEFAULTS.idleTimeout.serve;
    const pads = options.pad === true || options.hold === true;
    return {
      ...resolveStream(options, endpoint, idle, namedFiles(endpoint, entrance), server),
      entrance,
      keep: options.keep === true,
      // When read, `pad` puts zeroes behind the end of the source instead.
      short: shortStream(options.pad, pads && endpoint.direction === "write"),
    };
  });
}

/**
 * @param streams all streams of the command
 * @param server for one of several streams
 * @throws as {@link resolveServe}
 */
export function resolveRun(
  options: RunOptions,
  streams: readonly Pick<StreamOptions, "exportName" | "hold">[] = [options],
  server?: ServerSettings,
): ResolvedRun {
  return resolving(options, (endpoint) => {
    if (options.command !== undefined) requireHeld(options.command, streams);
    const { image, listen } = options;
    const idle = options.idleTimeout ?? DEFAULTS.idleTimeout.run;
    const files = namedFiles(endpoint, listen, image);
    const stream = resolveStream(options, endpoint, idle, files, server);
    const client = clientOf(options, endpoint);
    return {
      ...stream,
      address: listen,
      client,
      needsSize: stream.needsSize ?? client.needsSize,
      // A command that succeeds after reading a part of the stream needed no more.
      short: endpoint.direction === "read" ? "allow" : shortStream(options.pad, true),
    };
  });
}

/** Releases processes that wait at the FIFO of a stream that does not begin. */
export function releaseEndpoint({ spec, direction }: EndpointChoice): void {
  if (spec.kind === "path") releaseFifo(spec.path, direction);
}

/** The same for options that may be wrong. */
export function releaseNamed(options: Pick<StreamOptions, "pipe" | "read">): void {
  try {
    releaseEndpoint(resolveEndpoint(options));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
}

function resolving<T>(options: StreamOptions, work: (endpoint: EndpointChoice) => T): T {
  const endpoint = resolveEndpoint(options);
  try {
    return work(endpoint);
  } catch (error) {
    releaseEndpoint(endpoint);
    throw error;
  }
}

/** The endpoint of `pipe` or `read`. @throws UserError ERR_USAGE */
export function resolveEndpoint({
  pipe,
  read,
}: Pick<StreamOptions, "pipe" | "read">): EndpointChoice {
  if (pipe !== undefined && read !== undefined) throw optionError({ code: "ENDPOINT_TWICE" });
  const value = pipe ?? read;
  if (value === undefined) throw optionError({ code: "ENDPOINT_MISSING" });
  const direction = read === undefined ? "write" : "read";
  const text = typeof value === "number" ? `fd:${value}` : value;
  try {
    return { direction, spec: parseEndpoint(text, direction) };
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error;
    const { message: why, hint } = error;
    throw optionError({ code: "ENDPOINT_MALFORMED", direction, endpoint: text, why, hint });
  }
}

/** What all streams of a server have in common. The certificates are read. @throws UserError ERR_USAGE, ERR_TLS */
export function resolveServer(options: StreamOptions): ServerSettings {
  return {
    security: resolveSecurity(options),
    maxConnections: resolveConnections(options.maxConnections ?? DEFAULTS.maxConnections),
    negotiationTimeout: milliseconds(
      "negotiationTimeout",
      options.negotiationTimeout ?? DEFAULTS.negotiationTimeout,
    ),
    progressInterval: milliseconds(
      "progressInterval",
      options.progressInterval ?? DEFAULTS.progressInterval,
    ),
  };
}

/** The settings of both commands. @param idle seconds; 0 is no limit @param files all but the pid file */
function resolveStream(
  options: StreamOptions,
  endpoint: EndpointChoice,
  idle: number,
  files: NamedFile[],
  server: ServerSettings | undefined,
): Omit<ResolvedStream, "entrance" | "short"> {
  const { checksum, pidFile, exportName, spool } = options;
  const hold = options.hold === true;
  const reading = endpoint.direction === "read";
  const pad = reading && options.pad === true;
  const exact = options.exact === true;
  if (exact && !reading) throw optionError({ code: "EXACT_WRITTEN" });
  if (spool !== undefined && reading) throw optionError({ code: "SPOOL_READ" });
  if (hold && spool === undefined) throw optionError({ code: "HOLD_WITHOUT_SPOOL" });
  if (checksum !== undefined && !CHECKSUM_ALGORITHMS.includes(checksum)) {
    throw usageError(
      `checksum ${checksum} is not known: there are ${CHECKSUM_ALGORITHMS.join(", ")}`,
    );
  }
  if (Buffer.byteLength(exportName ?? "") > NBD_MAX_STRING) {
    throw optionError({ code: "EXPORT_NAME", most: NBD_MAX_STRING });
  }
  if (pidFile !== undefined) {
    const file = { name: named("pidFile"), path: pidFile };
    requireDifferentFile(file, files);
    files.push(file);
  }
  const asked = resolveWindow(options);
  // What is held in the spool needs no memory.
  const window = hold ? 0 : asked;
  const reconnect = milliseconds("reconnect", options.reconnect);
  const idleTimeout = milliseconds("idleTimeout", idle === 0 ? undefined : idle);
  return {
    ...endpoint,
    size: options.size === undefined ? undefined : resolveSize("size", options.size),
    needsSize: pad ? switchedOn("pad") : exact ? switchedOn("exact") : undefined,
    window,
    held: reconnect === undefined ? window : Math.max(window, IN_FLIGHT),
    pad,
    exact,
    spool,
    hold,
    checksum,
    exportName,
    pidFile,
    ...(server ?? resolveServer(options)),
    reconnect,
    // A client that may come back and is silent for that time is lost, even if its link does not show it.
    idleTimeout: least(idleTimeout, reconnect),
    openTimeout: milliseconds(reading ? "writerTimeout" : "readerTimeout", options.openTimeout),
    signal: options.signal,
    beforeStart: options.beforeStart,
    files,
    workerUrl: options.workerUrl ?? WORKER,
  };
}

/** @param pads lengthens a stream for which `pad` is not false */
function shortStream(pad: boolean | undefined, pads: boolean): ShortStream {
  if (pad === false) return "allow";
  return pads ? "pad" : "fail";
}

/** The files that a report or a pid file must not be. */
function namedFiles(
  { direction, spec }: EndpointChoice,
  entrance: Entrance | undefined,
  image?: string,
): NamedFile[] {
  const files: NamedFile[] = [];
  if (spec.kind === "path") {
    files.push({ name: named(direction === "write" ? "pipe" : "read"), path: spec.path });
  }
  if (spec.kind === "descriptor") {
    files.push({ name: spec.name, path: `/proc/self/fd/${spec.fd}` });
  }
  if (entrance?.kind === "unix") files.push({ name: named("socketPath"), path: entrance.path });
  const path = image === undefined ? undefined : imagePath(image);
  if (path !== undefined) files.push({ name: named("image"), path });
  return files;
}

function named(option: Option): Words {
  return { code: "OPTION", option };
}

function switchedOn(option: "pad" | "exact"): Words {
  return { code: "OPTION", option, value: true };
}

/**
 * A size in bytes.
 *
 * @returns at most 2^63 - 2^30
 * @throws UserError ERR_USAGE
 */
export function resolveSize(option: "size" | "window", size: Size): bigint {
  const bytes = typeof size === "string" ? parseSize(size) : wholeBytes(size);
  if (bytes === undefined) throw optionError({ code: "NOT_A_SIZE", option, value: size });
  if (bytes <= UNBOUNDED_SIZE) return bytes;
  throw optionError({ code: "SIZE_TOO_LARGE", option, value: size, most: "2^63 - 2^30 bytes" });
}

/** Undefined for a number that is not exact, because it may have been another one. */
function wholeBytes(size: number | bigint): bigint | undefined {
  const exact = typeof size === "bigint" || Number.isSafeInteger(size);
  return exact && size >= 0 ? BigInt(size) : undefined;
}

/** The memory of `window`, or what is usual, in bytes. @throws UserError ERR_USAGE */
export function resolveWindow({ window, spool }: Pick<StreamOptions, "window" | "spool">): number {
  const size = window ?? (spool === undefined ? DEFAULTS.window : DEFAULTS.windowWithSpool);
  const bytes = Number(resolveSize("window", size));
  if (bytes <= LARGEST_WINDOW) return bytes;
  const most = formatSize(LARGEST_WINDOW);
  throw optionError({ code: "SIZE_TOO_LARGE", option: "window", value: size, most });
}

/** Whole milliseconds, at least one. @throws UserError ERR_USAGE */
function milliseconds(option: Option, seconds: number): number;
function milliseconds(option: Option, seconds: number | undefined): number | undefined;
function milliseconds(option: Option, seconds: number | undefined): number | undefined {
  if (seconds === undefined) return undefined;
  if (!(seconds > 0 && seconds <= MAX_SECONDS)) {
    throw optionError({ code: "NOT_A_TIME", option, value: seconds });
  }
  return Math.max(1, Math.round(seconds * 1000));
}

function resolveConnections(number: number): number {
  if (Number.isInteger(number) && number > 0 && number <= MAX_CONNECTIONS) return number;
  throw optionError({ code: "NOT_A_NUMBER", option: "maxConnections", value: number });
}

/** The smaller one; undefined is no limit. */
function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

function resolveSecurity({ tls }: StreamOptions): Security {
  if (tls === undefined) return { policy: "off" };
  const { policy, certificates: folder, verifyPeer = false } = tls;
  if (policy !== "on" && policy !== "require") {
    throw usageError(`tls.policy ${policy as string} is not known: there are on and require`);
  }
  return { policy, folder, options: loadCertificates(folder, verifyPeer) };
}
