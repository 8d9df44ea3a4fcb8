/** What `nbd-streaming check` does. */
import { type CheckContext, checkClient, requireNoSignal } from "../check/client.ts";
import { checkEndpoint } from "../check/endpoint.ts";
import { checkMachine } from "../check/machine.ts";
import {
  type ClientFindings,
  type Item,
  reportJson,
  reportOf,
  reportText,
} from "../check/report.ts";
import { selfTests } from "../check/self-test.ts";
import { endpointText } from "../endpoint/spec.ts";
import { EXIT, usageError } from "../errors.ts";
import { resolveEndpoint, resolveSize, resolveWindow } from "../library/options.ts";
import { optionError } from "../messages/notice-error.ts";
import { catchSignals, listen } from "../process/signals.ts";
import { lineWriter, STDERR, STDOUT } from "../process/line-writer.ts";
import { StopSignal } from "../server/stop-signal.ts";
import { createLog } from "./log.ts";
import type { CliContext } from "./options.ts";
import { parseParameters, type StreamParameters } from "./parameters.ts";
import { COMMAND_LINE } from "./vocabulary.ts";
import { requireNames, requireReference } from "./words.ts";

/** The pipe in the suggested command line where the user has named none. */
const ANY_PIPE = "disk.fifo";

/** Words and options, as citty parses them. */
export interface CheckArgs {
  readonly _: string[];
  readonly json?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

/** @returns the exit status @throws UserError */
export async function runCheck(
  args: CheckArgs,
  { captive, workerUrl }: CliContext,
): Promise<number> {
  const { parameters, rest } = parseParameters(args._);
  if (rest.length > 0) {
    throw usageError(`unknown argument ${rest[0]}: a command comes after --`);
  }
  const { endpoint, size, window, spool } = resolveCheck(parameters, captive);
  const stopSignal = new StopSignal();
  const release = catchSignals((signal) => stopSignal.raise(signal));
  // SIGUSR1 asks for the progress of a stream. By default it would end the program.
  listen("SIGUSR1", () => {});
  const log = createLog(args.verbose === true ? "verbose" : "normal");
  const context: CheckContext = { stopSignal, workerUrl, log, vocabulary: COMMAND_LINE };
  const items: Item[] = [];
  let client: ClientFindings | undefined;
  let status: number = EXIT.COMPLETE;
  if (endpoint !== undefined) {
    items.push(...(await checkEndpoint({ ...endpoint, size, window, spool })));
  }
  if (captive !== undefined) {
    const sink = endpoint === undefined ? ANY_PIPE : endpointText(endpoint.spec);
    const checked = await checkClient(captive, { size, sink, spool }, context);
    ({ findings: client, status } = checked);
    items.push(...checked.items);
  }
  if (endpoint === undefined && captive === undefined) {
    items.push(...checkMachine(spool), ...(await selfTests(context)));
  }
  requireNoSignal(stopSignal);
  // Nothing is left to clean up, and the reader of the report may be slow: a signal may end the program.
  release();
  const report = reportOf(items, client);
  // The report must not go to the pipe that is checked.
  const isSink = endpoint?.direction === "write" && endpoint.spec.kind === "descriptor";
  const to = isSink && endpoint.spec.fd === STDOUT ? STDERR : STDOUT;
  const writer = lineWriter(to);
  writer.write(args.json === true ? reportJson(report) : reportText(report));
  // The reader may take its time. One that leaves early, such as head(1), is no error.
  await writer.flushed(stopSignal.stop);
  requireNoSignal(stopSignal);
  if (status !== EXIT.COMPLETE) return status;
  return report.ok ? EXIT.COMPLETE : EXIT.SETUP;
}

/** What is checked; each of them is optional. @throws UserError ERR_USAGE */
function resolveCheck(parameters: StreamParameters, captive: readonly string[] | undefined) {
  const { pipe, read, spool } = parameters;
  const named = pipe !== undefined || read !== undefined;
  const endpoint = named ? resolveEndpoint({ pipe, read }) : undefined;
  const size = parameters.size === undefined ? undefined : resolveSize("size", parameters.size);
  const window = resolveWindow(parameters);
  const given = parameters.window === undefined ? 0 : window;
  if (spool !== undefined && endpoint?.direction === "read") {
    throw optionError({ code: "SPOOL_READ" });
  }
  if (captive !== undefined) {
    if (captive.length === 0) throw usageError("the command after -- is missing");
    if (endpoint?.direction === "read") {
      throw usageError("a command is checked for how it writes: it cannot be combined with read=");
    }
    requireReference(captive);
    requireNames(captive, undefined);
    if (given > 0) throw usageError("window= is what a command is checked for: leave it out");
  } else if (endpoint === undefined && (size !== undefined || given > 0)) {
    throw usageError("size= and window= need pipe=, read= or a command after --");
  }
  return { endpoint, size, window, spool };
}
