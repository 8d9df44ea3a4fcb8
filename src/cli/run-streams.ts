/** Several streams from the command line to their exit status, for `serve` and `run`. */
import { parseArgs } from "citty";
import type { EndpointSpec } from "../endpoint/spec.ts";
import { about, EXIT, usageError } from "../errors.ts";
import type { StreamOptions } from "../library/options.ts";
import type { OwnOptions } from "../library/several.ts";
import { type Streams, type StreamSummary, TruncatedStreamsError } from "../library/streams.ts";
import { catchSignals } from "../process/signals.ts";
import { totalOf } from "../progress/total.ts";
import {
  type CliContext,
  COMMON_OPTIONS,
  type CommonArgs,
  parseChecksum,
  parseSummary,
  ownOptions,
  plainArgs,
  serverOptions,
  type StreamWords,
} from "./options.ts";
import { parseParameters, type StreamParameters } from "./parameters.ts";
import { createDisplay } from "./progress.ts";
import {
  removeReports,
  type ReportOptions,
  reportStreams,
  requireReports,
  tell,
} from "./report.ts";
import { inProgram, logOf, type Output, type ShownStream } from "./run-stream.ts";

/** What `resolveServeStreams` and `resolveRunStreams` get of the command line. */
interface StreamsOptions extends Omit<StreamOptions, keyof OwnOptions> {
  readonly streams: readonly OwnOptions[];
  readonly failFast: boolean | undefined;
}

export interface SeveralOutput extends Pick<Output, "log" | "display"> {
  /** Of each stream. */
  readonly reports: readonly ReportOptions[];
}

/**
 * Resolves the options of several streams, and checks that the reports can be written.
 *
 * @param words what is behind each `-e`
 * @param common what is for all streams
 * @param resolve adds the options of the command
 * @throws UserError ERR_USAGE, ERR_FILE, ERR_TLS
 */
export async function resolveStreams<Settings extends ShownStream>(
  words: readonly StreamWords[],
  common: CommonArgs & { readonly _: string[] },
  { workerUrl }: CliContext,
  resolve: (options: StreamsOptions) => readonly Settings[],
): Promise<{ settings: Settings[]; output: SeveralOutput }> {
  const shared = parametersOf(common._);
  const parsed = words.map(({ name, words: own }) => {
    try {
      return parseOwn(name, own, common, shared);
    } catch (error) {
      throw about(name, error);
    }
  });
  requireEndpoints(parsed.map(({ options }) => options));
  const reports = parsed.map(({ report }) => report);
  const options = {
    ...serverOptions(common),
    streams: parsed.map(({ options: own }) => own),
    failFast: common["fail-fast"],
    beforeStart: () => removeReports(reports),
    workerUrl,
  };
  const resolved = resolve(options);
  const display = createDisplay(common, resolved);
  await requireReports(
    reports,
    resolved.flatMap(({ files }) => files),
  );
  const settings = resolved.map((one) => inProgram(one, common));
  return { settings, output: { reports, display, log: logOf(common) } };
}

/** The options of one stream: its own, and those for all that it does not set itself. */
function parseOwn(
  name: string,
  words: readonly string[],
  common: CommonArgs,
  shared: StreamParameters,
): { options: OwnOptions; report: ReportOptions } {
  const own: CommonArgs & { _: string[] } = plainArgs(parseArgs([...words], COMMON_OPTIONS));
  const parameters = parametersOf(own._);
  const { pipe, read, ...rest } = shared;
  const hasOwn = parameters.pipe !== undefined || parameters.read !== undefined;
  const all = { ...rest, ...(hasOwn ? {} : { pipe, read }), ...parameters };
  const direction = all.read === undefined ? "write" : "read";
  // What is for the other direction's streams is not for this one, unless it asks for it.
  const foreign =
    direction === "read"
      ? { "reader-timeout": undefined }
      : { "writer-timeout": undefined, exact: undefined };
  const args = { ...common, ...foreign, ...own };
  const checksum = parseChecksum(args.checksum);
  return {
    options: {
      ...all,
      ...ownOptions(args, direction),
      checksum: checksum?.algorithm,
      exportName: name,
    },
    report: { summary: parseSummary(args.summary), checksumFile: checksum?.file },
  };
}

/** One that stands behind an `-e`, and is meant for all, is only that one's. */
function requireEndpoints(streams: readonly OwnOptions[]): void {
  const hasNone = ({ pipe, read }: OwnOptions) => pipe === undefined && read === undefined;
  const without = streams.find(hasNone);
  if (without === undefined || streams.every(hasNone)) return;
  throw usageError(
    `${without.exportName}: neither pipe= nor read= is given: what is for all streams stands before the first -e`,
  );
}

function parametersOf(words: readonly string[]): StreamParameters {
  const { parameters, rest } = parseParameters(words);
  if (rest.length === 0) return parameters;
  throw usageError(
    `unknown argument ${rest[0]}: parameters look like pipe=FILE, and an IMAGE is for one stream`,
  );
}

/**
 * Shows and reports several streams that have just been started.
 *
 * @param specs of the streams, in their order
 * @returns the exit status
 * @throws UserError when they could not begin
 */
export async function runStreams(
  streaming: Streams,
  specs: readonly EndpointSpec[],
  { log, display, reports }: SeveralOutput,
): Promise<number> {
  const ended = new Set<string>();
  streaming.on("message", ({ level, text, export: name }) => {
    log[level](name === undefined ? text : `${name}: ${text}`);
  });
  streaming.once("listening", () => {
    display.begin({
      total: () => totalOf(streaming.progress, ended),
      each: () => streaming.progress,
    });
  });
  streaming.on("ended", (summary) => {
    ended.add(summary.export);
    tell(summary, reports[0] as ReportOptions, log, summary.export);
  });
  catchSignals((signal) => streaming.stop(signal));
  let summaries: readonly StreamSummary[] | undefined;
  let status: number = EXIT.COMPLETE;
  try {
    summaries = await streaming;
  } catch (error) {
    if (!(error instanceof TruncatedStreamsError)) throw error;
    ({ summaries, exitStatus: status } = error);
  } finally {
    display.end(status === EXIT.COMPLETE && summaries !== undefined);
  }
  const reported = await reportStreams(
    summaries.map((summary, i) => ({
      summary,
      spec: specs[i] as EndpointSpec,
      options: reports[i] as ReportOptions,
    })),
    log,
  );
  return reported || status !== EXIT.COMPLETE ? status : EXIT.SETUP;
}
