/** What `serve` and `run` make alike of the command line. */
import { usageError } from "../errors.ts";
import type { HostOptions } from "../server/host.ts";
import { createLog } from "./log.ts";
import {
  parseChecksum,
  parseExportName,
  parseMaxConnections,
  parseSeconds,
  parseSecurity,
  parseSummary,
} from "./options.ts";
import type { Parameters } from "./parameters.ts";
import { createProgress } from "./progress.ts";

/** Seconds from the connection to the choice of the export; an honest client takes milliseconds. */
const NEGOTIATION_TIMEOUT = 10;

/** The values of COMMON_OPTIONS. */
interface CommonArgs {
  readonly exportname?: string | undefined;
  readonly pidfile?: string | undefined;
  readonly pad?: boolean | undefined;
  readonly exact?: boolean | undefined;
  readonly "reader-timeout"?: string | undefined;
  readonly "writer-timeout"?: string | undefined;
  readonly tls?: string | undefined;
  readonly "tls-certificates"?: string | undefined;
  readonly "tls-verify-peer"?: boolean | undefined;
  readonly "max-connections"?: string | undefined;
  readonly "negotiation-timeout"?: string | undefined;
  readonly reconnect?: string | undefined;
  readonly checksum?: string | undefined;
  readonly summary?: string | undefined;
  readonly progress?: string | false | undefined;
  readonly "progress-interval"?: string | undefined;
  readonly "progress-fd"?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

/**
 * All that is not up to the one command or the other.
 *
 * @throws UserError ERR_USAGE
 */
export function streamOptions(
  { direction, target, size, window }: Parameters,
  args: CommonArgs,
): Omit<HostOptions, "entrance" | "needsSize" | "short" | "idleTimeout" | "signals" | "workerUrl"> {
  const reading = direction === "read";
  if (reading && args["reader-timeout"] !== undefined) {
    throw usageError("--reader-timeout goes with pipe=: for read= it is --writer-timeout");
  }
  if (!reading && args["writer-timeout"] !== undefined) {
    throw usageError("--writer-timeout goes with read=: for pipe= it is --reader-timeout");
  }
  if (!reading && args.exact === true) {
    throw usageError("--exact goes with read=: clients cannot write past size=");
  }
  return {
    direction,
    target,
    size,
    window,
    pad: reading && args.pad === true,
    exact: args.exact === true,
    exportName: parseExportName(args.exportname),
    pidFile: args.pidfile,
    security: parseSecurity(args),
    maxConnections: parseMaxConnections(args["max-connections"]),
    negotiationTimeout:
      parseSeconds("--negotiation-timeout", args["negotiation-timeout"]) ?? NEGOTIATION_TIMEOUT,
    reconnect: parseSeconds("--reconnect", args.reconnect),
    openTimeout:
      parseSeconds("--reader-timeout", args["reader-timeout"]) ??
      parseSeconds("--writer-timeout", args["writer-timeout"]),
    ...parseChecksum(args.checksum),
    summary: parseSummary(args.summary),
    observer: createProgress(args, target),
    log: createLog(args.quiet === true ? "quiet" : args.verbose === true ? "verbose" : "normal"),
  };
}
