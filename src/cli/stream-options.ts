/** What `serve` and `run` make alike of the command line. */
import { usageError } from "../errors.ts";
import type { HostOptions } from "../server/host.ts";
import { createLog } from "./log.ts";
import { parseChecksum, parseExportName, parseSeconds, parseSummary } from "./options.ts";
import type { Parameters } from "./parameters.ts";

/** The values of COMMON_OPTIONS. */
interface CommonArgs {
  readonly exportname?: string | undefined;
  readonly pidfile?: string | undefined;
  readonly pad?: boolean | undefined;
  readonly exact?: boolean | undefined;
  readonly "reader-timeout"?: string | undefined;
  readonly "writer-timeout"?: string | undefined;
  readonly reconnect?: string | undefined;
  readonly checksum?: string | undefined;
  readonly summary?: string | undefined;
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
): Omit<HostOptions, "address" | "needsSize" | "short" | "signals" | "workerUrl"> {
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
    reconnect: parseSeconds("--reconnect", args.reconnect),
    openTimeout:
      parseSeconds("--reader-timeout", args["reader-timeout"]) ??
      parseSeconds("--writer-timeout", args["writer-timeout"]),
    ...parseChecksum(args.checksum),
    summary: parseSummary(args.summary),
    log: createLog(args.verbose === true),
  };
}
