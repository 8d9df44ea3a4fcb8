/** A stream from the command line to its exit status, for `serve` and `run`. */
import { EXIT } from "../errors.ts";
import { type ResolvedStream, type StreamOptions } from "../library/options.ts";
import { type Streaming, TruncatedError } from "../library/streaming.ts";
import { catchSignals } from "../process/signals.ts";
import type { ProgressDisplay } from "../progress/display.ts";
import type { EndpointSpec } from "../endpoint/spec.ts";
import type { Summary } from "../server/summary.ts";
import { type CliLog, createLog } from "./log.ts";
import {
  type CliContext,
  type CommonArgs,
  parseChecksum,
  parseSummary,
  streamOptions,
} from "./options.ts";
import type { StreamParameters } from "./parameters.ts";
import { createDisplay } from "./progress.ts";
import { removeReports, report, type ReportOptions, requireReports } from "./report.ts";

/** Where a stream's messages, progress and reports go. */
export interface Output {
  readonly log: CliLog;
  readonly display: ProgressDisplay;
  readonly reports: ReportOptions;
}

/** What this room needs to know of the settings of a stream. */
export type ShownStream = Pick<
  ResolvedStream,
  "spec" | "progressInterval" | "files" | "needsSize" | "hold"
>;

/**
 * Resolves the options that `serve` and `run` share, and checks that the reports can be written.
 *
 * @param resolve adds the options of the command
 * @throws UserError ERR_USAGE, ERR_FILE, ERR_TLS
 */
export async function resolveStream<Settings extends ShownStream>(
  parameters: StreamParameters,
  args: CommonArgs,
  { workerUrl }: CliContext,
  resolve: (options: StreamOptions) => Settings,
): Promise<{ settings: Settings; output: Output }> {
  const checksum = parseChecksum(args.checksum);
  const reports = { summary: parseSummary(args.summary), checksumFile: checksum?.file };
  const options: StreamOptions = {
    ...parameters,
    ...streamOptions(args, parameters.read === undefined ? "write" : "read"),
    checksum: checksum?.algorithm,
    beforeStart: () => removeReports([reports]),
    workerUrl,
  };
  const settings = resolve(options);
  const display = createDisplay(args, [settings]);
  await requireReports([reports], settings.files);
  return {
    settings: inProgram(settings, args),
    output: { reports, display, log: logOf(args) },
  };
}

/** The settings of a stream in the program, which exits after it and may have to show percentages. */
export function inProgram<Settings extends Pick<ShownStream, "needsSize" | "hold">>(
  settings: Settings,
  args: CommonArgs,
): Settings {
  // The length of a stream that is held is known before its first byte.
  const needed = args["progress-fd"] !== undefined && !settings.hold;
  const percentage = needed ? "--progress-fd" : undefined;
  return { ...settings, needsSize: settings.needsSize ?? percentage, exits: true };
}

export function logOf({ quiet, verbose }: CommonArgs): CliLog {
  return createLog(quiet === true ? "quiet" : verbose === true ? "verbose" : "normal");
}

/**
 * Shows and reports a stream that has just been started.
 *
 * @returns the exit status
 * @throws UserError when it could not begin
 */
export async function runStream(
  streaming: Streaming,
  spec: EndpointSpec,
  { log, display, reports }: Output,
): Promise<number> {
  streaming.on("message", ({ level, text }) => log[level](text));
  streaming.once("listening", () => display.begin({ total: () => streaming.progress }));
  catchSignals((signal) => streaming.stop(signal));
  let summary: Summary | undefined;
  let status: number = EXIT.COMPLETE;
  try {
    summary = await streaming;
  } catch (error) {
    if (!(error instanceof TruncatedError)) throw error;
    ({ summary, exitStatus: status } = error);
  } finally {
    display.end(summary?.complete === true);
  }
  const reported = await report({ summary, spec, options: reports }, log);
  return reported || status !== EXIT.COMPLETE ? status : EXIT.SETUP;
}
