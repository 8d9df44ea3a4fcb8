/** What `serve` and `run` make alike of the command line. */
import { usageError } from "../errors.ts";
import type { StreamOptions } from "../library/options.ts";
import type { CliContext } from "./context.ts";
import type { Output } from "./run-stream.ts";
import { createLog } from "./log.ts";
import {
  parseChecksum,
  parseLimit,
  parseMaxConnections,
  parseSeconds,
  parseSummary,
  parseTls,
} from "./options.ts";
import type { StreamParameters } from "./parameters.ts";
import { createDisplay } from "./progress.ts";
import { removeReports } from "./report.ts";

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
  readonly "idle-timeout"?: string | undefined;
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
 * All that is not up to the one command or the other: the stream, and what the user gets to see of it.
 *
 * @throws UserError ERR_USAGE
 */
export function streamOptions(
  { direction, endpoint, spec, size, window }: StreamParameters,
  args: CommonArgs,
  { workerUrl }: CliContext,
): { stream: StreamOptions; output: Output } {
  const reading = direction === "read";
  if (reading && args["reader-timeout"] !== undefined) {
    throw usageError("--reader-timeout needs pipe=: for read= it is --writer-timeout");
  }
  if (!reading && args["writer-timeout"] !== undefined) {
    throw usageError("--writer-timeout needs read=: for pipe= it is --reader-timeout");
  }
  const { checksum, checksumFile } = parseChecksum(args.checksum);
  const reports = { summary: parseSummary(args.summary), checksumFile };
  return {
    stream: {
      ...endpoint,
      size,
      window,
      pad: args.pad,
      exact: args.exact,
      exportName: args.exportname,
      pidFile: args.pidfile,
      tls: parseTls(args),
      maxConnections: parseMaxConnections(args["max-connections"]),
      negotiationTimeout: parseSeconds("negotiationTimeout", args["negotiation-timeout"]),
      idleTimeout: parseLimit("idleTimeout", args["idle-timeout"]),
      reconnect: parseSeconds("reconnect", args.reconnect),
      openTimeout:
        parseSeconds("readerTimeout", args["reader-timeout"]) ??
        parseSeconds("writerTimeout", args["writer-timeout"]),
      checksum,
      beforeStart: () => removeReports(reports),
      needsSize: args["progress-fd"] === undefined ? undefined : "--progress-fd",
      workerUrl,
    },
    output: {
      reports,
      display: createDisplay(args, spec),
      log: createLog(args.quiet === true ? "quiet" : args.verbose === true ? "verbose" : "normal"),
    },
  };
}
