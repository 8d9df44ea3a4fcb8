/** The options: how they are called and described (citty's definitions), and what their values mean. */
import type { ArgDef } from "citty";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from "../endpoint/checksum.ts";
import type { Direction } from "../endpoint/spec.ts";
import { usageError } from "../errors.ts";
import { DEFAULTS, type StreamOptions, type TlsOptions } from "../library/options.ts";
import type { OwnOptions } from "../library/several.ts";
import { optionError } from "../messages/notice-error.ts";
import type { Option } from "../messages/vocabulary.ts";
import type { Address } from "../net/address.ts";
import type { Outline } from "../reference/outline.ts";

/** The words behind one of several `-e`. */
export interface StreamWords {
  readonly name: string;
  readonly words: readonly string[];
}

/** What the entry point passes to a command. */
export interface CliContext {
  /** The words after `--`; undefined without one. */
  readonly captive: readonly string[] | undefined;
  /** The stream thread's file. */
  readonly workerUrl: URL;
  /** The streams, if there are several `-e`; the words of the command line are then for all of them. */
  readonly streams: readonly StreamWords[] | undefined;
  /** The whole command line. */
  readonly outline: () => Promise<Outline>;
}

/** `sets` names the option of the library that gets the text, or what `parse` makes of it. */
type StreamOption = {
  [Name in keyof StreamOptions]-?: {
    readonly sets: Name;
    /** @throws UserError ERR_USAGE */
    readonly parse?: (text: string) => StreamOptions[Name];
  };
}[keyof StreamOptions];

/** An option whose value may be omitted, which means this one; `--no-` switches it off. */
export interface MayBeAlone {
  readonly withoutValue?: string;
}

/** An option of which each of several streams may have its own. */
export interface MayBeOwn {
  readonly own?: true;
}

/** Options that `serve` and `run` share. This file or the command itself handles those without `sets`. */
export const COMMON_OPTIONS = {
  unix: {
    type: "string",
    alias: "U",
    valueHint: "PATH",
    description: "Listen on a Unix socket",
  },
  port: { type: "string", alias: "p", valueHint: "PORT", description: "Listen on a TCP port" },
  ipaddr: {
    type: "string",
    alias: "i",
    valueHint: "ADDRESS",
    description: `Listen on this TCP address (default: ${DEFAULTS.listen.host})`,
  },
  exportname: {
    own: true,
    type: "string",
    alias: "e",
    valueHint: "NAME",
    description:
      "Serve only this export name (default: any); each further -e begins another stream",
    sets: "exportName",
  },
  pidfile: {
    type: "string",
    alias: "P",
    valueHint: "FILE",
    description: "Write the process id to FILE when clients can connect",
    sets: "pidFile",
  },
  pad: {
    own: true,
    type: "boolean",
    negativeDescription: "Let the stream be shorter than size=",
    description: "Lengthen the stream to size= with zeroes (default of run with pipe=)",
    sets: "pad",
  },
  exact: {
    own: true,
    type: "boolean",
    description: "read=: fail if the source is longer than size=, instead of only warning",
    sets: "exact",
  },
  hold: {
    own: true,
    type: "boolean",
    description:
      "pipe=, spool=: take writes in any order and again; stream when the clients are done",
    sets: "hold",
  },
  "reader-timeout": {
    own: true,
    type: "string",
    valueHint: "SECONDS",
    description: "pipe=: give up if nobody has opened the pipe for reading by then (default: wait)",
    sets: "openTimeout",
    parse: seconds("readerTimeout"),
  },
  "writer-timeout": {
    own: true,
    type: "string",
    valueHint: "SECONDS",
    description: "read=: give up if nobody has opened the pipe for writing by then (default: wait)",
    sets: "openTimeout",
    parse: seconds("writerTimeout"),
  },
  tls: {
    type: "string",
    valueHint: "off|on|require",
    description: "Whether clients may or must use TLS (default: off)",
  },
  "tls-certificates": {
    type: "string",
    valueHint: "DIR",
    description: "Folder with server-cert.pem, server-key.pem and ca-cert.pem",
  },
  "tls-verify-peer": {
    type: "boolean",
    description: "Refuse TLS clients without a certificate that ca-cert.pem has signed",
  },
  "max-connections": {
    type: "string",
    valueHint: "N",
    description: `Refuse clients beyond N at a time (default: ${DEFAULTS.maxConnections})`,
    sets: "maxConnections",
    parse: parseConnections,
  },
  "negotiation-timeout": {
    type: "string",
    valueHint: "SECONDS",
    description: `Disconnect clients that have not chosen the export by then (default: ${DEFAULTS.negotiationTimeout})`,
    sets: "negotiationTimeout",
    parse: seconds("negotiationTimeout"),
  },
  "idle-timeout": {
    own: true,
    type: "string",
    valueHint: "SECONDS",
    description:
      "Disconnect clients that stop within a request, or idle and hold up others; 0: never " +
      `(serve: ${DEFAULTS.idleTimeout.serve}, run: ${DEFAULTS.idleTimeout.run})`,
    sets: "idleTimeout",
    parse: seconds("idleTimeout"),
  },
  reconnect: {
    own: true,
    type: "string",
    valueHint: "SECONDS",
    description: "Let a client whose connection is lost come back and go on",
    sets: "reconnect",
    parse: seconds("reconnect"),
  },
  checksum: {
    own: true,
    type: "string",
    valueHint: "ALG[:FILE]",
    description:
      "Compute the stream's sha256, sha512, md5 or blake2b512; FILE gets a line for sha256sum -c",
  },
  "fail-fast": {
    type: "boolean",
    description: "Of several streams, end all when one is truncated (default: the others go on)",
  },
  summary: {
    type: "string",
    valueHint: "json[:FILE]",
    description: "Write the summary as JSON, to stderr or to FILE",
  },
  progress: {
    type: "string",
    valueHint: "json",
    description:
      "Print progress every second, as text or JSON; a terminal gets a bar anyway (--no-progress: none)",
    withoutValue: "on",
  },
  "progress-interval": {
    type: "string",
    valueHint: "SECONDS",
    description: `Time between two lines of --progress (default: ${DEFAULTS.progressInterval})`,
    sets: "progressInterval",
    parse: seconds("progressInterval"),
  },
  "progress-fd": {
    type: "string",
    valueHint: "FD",
    description: "Write the percentage (N/100) to a descriptor, as nbdcopy does; needs size=",
  },
  quiet: {
    type: "boolean",
    alias: "q",
    description: "Print only errors on stderr, and show no progress",
  },
  verbose: { type: "boolean", alias: "v", description: "Print more on stderr" },
} as const satisfies Record<
  string,
  ArgDef & MayBeAlone & MayBeOwn & (StreamOption | { readonly sets?: never })
>;

/** The values of {@link COMMON_OPTIONS} as citty parses them; false is one that is switched off. */
export type CommonArgs = {
  readonly [Name in keyof typeof COMMON_OPTIONS]?:
    | ((typeof COMMON_OPTIONS)[Name]["type"] extends "boolean" ? boolean : string)
    | ((typeof COMMON_OPTIONS)[Name] extends Required<MayBeAlone> ? false : never)
    | undefined;
};

/** The options that the library also has. */
export const STREAM_OPTIONS = Object.entries(COMMON_OPTIONS).filter(
  (entry) => "sets" in entry[1],
) as [keyof CommonArgs, StreamOption & MayBeOwn][];

/** The options as a plain object: citty's looks for each one that is not given under two other spellings. */
export function plainArgs<Args extends object>(args: Args): Args {
  return { ...args };
}

/** The library's options, except for the address and the reports. @throws UserError ERR_USAGE */
export function streamOptions(args: CommonArgs, direction: Direction): StreamOptions {
  return { ...ownOptions(args, direction), ...serverOptions(args) };
}

/** Those of which each of several streams may have its own. @throws UserError ERR_USAGE */
export function ownOptions(args: CommonArgs, direction: Direction): StreamOptions {
  if (direction === "read" && args["reader-timeout"] !== undefined) {
    throw usageError("--reader-timeout needs pipe=: for read= it is --writer-timeout");
  }
  if (direction === "write" && args["writer-timeout"] !== undefined) {
    throw usageError("--writer-timeout needs read=: for pipe= it is --reader-timeout");
  }
  return parseOptions(args, true);
}

/** Those that all streams of a server have in common. @throws UserError ERR_USAGE */
export function serverOptions(args: CommonArgs): Omit<StreamOptions, keyof OwnOptions> {
  return { ...parseOptions(args, false), tls: parseTls(args) };
}

function parseOptions(args: CommonArgs, own: boolean): StreamOptions {
  const options: Record<string, unknown> = {};
  for (const [name, { sets, parse, own: isOwn = false }] of STREAM_OPTIONS) {
    const value = args[name];
    if (value === undefined || isOwn !== own) continue;
    options[sets as string] = parse === undefined ? value : parse(value as string);
  }
  return options;
}

/** The address that the options name; undefined if they name none. @throws UserError ERR_USAGE */
export function parseAddress({ unix, port, ipaddr }: CommonArgs): Address | undefined {
  if (unix !== undefined) {
    if (port !== undefined || ipaddr !== undefined) {
      throw usageError("-U cannot be combined with -p and -i: it is one socket or the other");
    }
    if (unix === "") throw usageError("-U needs a path");
    // As in nbdkit: a private socket, which `run` makes by default.
    if (unix === "-") return undefined;
    return { kind: "unix", path: unix };
  }
  if (port === undefined && ipaddr === undefined) return undefined;
  if (ipaddr === "") throw usageError("-i needs an address");
  return { kind: "tcp", host: ipaddr ?? DEFAULTS.listen.host, port: parsePort(port) };
}

function parsePort(text: string | undefined): number {
  if (text === undefined) return DEFAULTS.listen.port;
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65535)) throw usageError(`-p ${text} is not a port: give a number up to 65535`);
  return port;
}

/** Parses seconds, with fractions; the library checks the range. */
function seconds(option: Option): (text: string) => number {
  return (text) => {
    if (/^[0-9]+(\.[0-9]+)?$/.test(text)) return Number(text);
    throw optionError({ code: "NOT_A_TIME", option, value: text });
  };
}

function parseConnections(text: string): number {
  if (/^[0-9]+$/.test(text)) return Number(text);
  throw optionError({ code: "NOT_A_NUMBER", option: "maxConnections", value: text });
}

/** How connections are secured. @throws UserError ERR_USAGE */
function parseTls({
  tls = "off",
  "tls-certificates": certificates,
  "tls-verify-peer": verifyPeer,
}: CommonArgs): TlsOptions | undefined {
  if (tls !== "off" && tls !== "on" && tls !== "require") {
    throw usageError(`--tls=${tls} is not known: there are off, on and require`);
  }
  if (tls === "off") {
    if (certificates === undefined && verifyPeer !== true) return undefined;
    throw usageError("--tls-certificates and --tls-verify-peer need --tls=on or --tls=require");
  }
  if (certificates === undefined) {
    throw usageError(`--tls=${tls} needs --tls-certificates=DIR, the folder of server-cert.pem`);
  }
  return { policy: tls, certificates, verifyPeer };
}

export type SummaryFormat =
  | { readonly kind: "text" }
  /** Without a file, it goes to standard error. */
  | { readonly kind: "json"; readonly file: string | undefined };

/** The form of the summary. @throws UserError ERR_USAGE */
export function parseSummary(text: string | undefined): SummaryFormat {
  if (text === undefined) return { kind: "text" };
  if (text === "json") return { kind: "json", file: undefined };
  const [, file] = /^json:(.+)$/s.exec(text) ?? [];
  if (file === undefined) {
    throw usageError(`--summary=${text} is not known: write --summary=json or --summary=json:FILE`);
  }
  return { kind: "json", file };
}

/** The checksum and where its line goes. @throws UserError ERR_USAGE */
export function parseChecksum(
  text: string | undefined,
): { readonly algorithm: ChecksumAlgorithm; readonly file: string | undefined } | undefined {
  if (text === undefined) return undefined;
  const [, name = "", file] = /^([^:]*)(?::(.+))?$/s.exec(text) ?? [];
  const algorithm = CHECKSUM_ALGORITHMS.find((known) => known === name.toLowerCase());
  if (algorithm === undefined) {
    const known = CHECKSUM_ALGORITHMS.join(", ");
    throw usageError(`--checksum=${text} is not known: there are ${known}, and ALG:FILE`);
  }
  return { algorithm, file };
}
