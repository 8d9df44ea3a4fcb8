/** The options, by citty's definitions, and what their values mean. */
import type { ArgsDef } from "citty";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from "../endpoint/checksum.ts";
import { usageError } from "../errors.ts";
import { checkConnections, checkSeconds } from "../library/numbers.ts";
import type { Option } from "../messages/notice.ts";
import type { TlsOptions } from "../library/options.ts";
import { type Address, NBD_PORT } from "../net/address.ts";
import type { ReportOptions, SummaryFormat } from "./report.ts";

/** Options that `serve` and `run` share. */
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
    description: "Listen on this address (TCP; default 127.0.0.1)",
  },
  exportname: {
    type: "string",
    alias: "e",
    valueHint: "NAME",
    description: "Serve only this export name (default: any)",
  },
  pidfile: {
    type: "string",
    alias: "P",
    valueHint: "FILE",
    description: "Write the process id to FILE when ready",
  },
  pad: {
    type: "boolean",
    negativeDescription: "Let the stream be shorter than size=",
    description: "Lengthen the stream to size= with zeroes (run pipe=: always, but for --no-pad)",
  },
  exact: {
    type: "boolean",
    description: "read=: a source that is longer than size= is an error, not just a warning",
  },
  "reader-timeout": {
    type: "string",
    valueHint: "SECONDS",
    description: "pipe=: give up if nobody reads by then (default: wait)",
  },
  "writer-timeout": {
    type: "string",
    valueHint: "SECONDS",
    description: "read=: give up if nobody writes by then (default: wait)",
  },
  tls: {
    type: "string",
    valueHint: "off|on|require",
    description: "Whether clients may or must use TLS (default: off)",
  },
  "tls-certificates": {
    type: "string",
    valueHint: "DIR",
    description: "Folder of server-cert.pem, server-key.pem and ca-cert.pem",
  },
  "tls-verify-peer": {
    type: "boolean",
    description: "Of the clients with TLS, serve only those with a certificate of ca-cert.pem",
  },
  "max-connections": {
    type: "string",
    valueHint: "N",
    description: "Refuse clients beyond N at a time (default: 100)",
  },
  "negotiation-timeout": {
    type: "string",
    valueHint: "SECONDS",
    description: "Cut off clients that have not chosen the export by then (default: 10)",
  },
  "idle-timeout": {
    type: "string",
    valueHint: "SECONDS",
    description:
      "Cut off clients that stop in a request, or hold up others for nothing; 0 is never (serve: 60, run: 0)",
  },
  reconnect: {
    type: "string",
    valueHint: "SECONDS",
    description: "Let a client whose connection is lost come back and go on",
  },
  checksum: {
    type: "string",
    valueHint: "ALG[:FILE]",
    description:
      "Checksum the stream: sha256, sha512, md5 or blake2b512; as sha256sum's line to FILE",
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
      "Show progress: a line a second, or JSON lines; a terminal gets a bar (--no-progress: none)",
  },
  "progress-interval": {
    type: "string",
    valueHint: "SECONDS",
    description: "Time between two lines of --progress (default: 1)",
  },
  "progress-fd": {
    type: "string",
    valueHint: "FD",
    description: "Write the percentage to a descriptor as nbdcopy does: N/100; needs size=",
  },
  quiet: {
    type: "boolean",
    alias: "q",
    description: "Say nothing but errors on stderr, and show no progress",
  },
  verbose: { type: "boolean", alias: "v", description: "Say more on stderr" },
} as const satisfies ArgsDef;

/**
 * The address that the options name, or undefined if they name none.
 *
 * @throws UserError ERR_USAGE
 */
export function parseAddress(options: {
  unix?: string | undefined;
  port?: string | undefined;
  ipaddr?: string | undefined;
}): Address | undefined {
  const { unix, port, ipaddr } = options;
  if (unix !== undefined) {
    if (port !== undefined || ipaddr !== undefined) {
      throw usageError("-U cannot be combined with -p and -i: it is one socket or the other");
    }
    if (unix === "") throw usageError("-U needs a path");
    // As nbdkit has it: a private socket, which is what `run` makes anyway.
    if (unix === "-") return undefined;
    return { kind: "unix", path: unix };
  }
  if (port === undefined && ipaddr === undefined) return undefined;
  if (ipaddr === "") throw usageError("-i needs an address");
  return { kind: "tcp", host: ipaddr ?? "127.0.0.1", port: parsePort(port) };
}

function parsePort(text: string | undefined): number {
  if (text === undefined) return NBD_PORT;
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65535)) throw usageError(`-p ${text} is not a port: give a number up to 65535`);
  return port;
}

/**
 * A time in seconds, fractions included.
 *
 * @param option for the message
 * @throws UserError ERR_USAGE
 */
export function parseSeconds(option: Option, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return checkSeconds(option, /^[0-9]+(\.[0-9]+)?$/.test(text) ? Number(text) : Number.NaN, text);
}

/** A time in seconds, of which 0 is for ever. @throws UserError ERR_USAGE */
export function parseLimit(option: Option, text: string | undefined): number | undefined {
  return text === "0" ? 0 : parseSeconds(option, text);
}

/** How connections are secured. @throws UserError ERR_USAGE */
export function parseTls(options: {
  tls?: string | undefined;
  "tls-certificates"?: string | undefined;
  "tls-verify-peer"?: boolean | undefined;
}): TlsOptions | undefined {
  const { tls = "off", "tls-certificates": certificates, "tls-verify-peer": verifyPeer } = options;
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

/** A number of clients. @throws UserError ERR_USAGE */
export function parseMaxConnections(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const number = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  return checkConnections(number, text);
}

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
export function parseChecksum(text: string | undefined): {
  checksum: ChecksumAlgorithm | undefined;
  checksumFile: ReportOptions["checksumFile"];
} {
  if (text === undefined) return { checksum: undefined, checksumFile: undefined };
  const [, name = "", checksumFile] = /^([^:]*)(?::(.+))?$/s.exec(text) ?? [];
  const checksum = CHECKSUM_ALGORITHMS.find((algorithm) => algorithm === name.toLowerCase());
  if (checksum === undefined) {
    const known = CHECKSUM_ALGORITHMS.join(", ");
    throw usageError(`--checksum=${text} is not known: there are ${known}, and ALG:FILE`);
  }
  return { checksum, checksumFile };
}
