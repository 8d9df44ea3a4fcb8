/** A stream from its start to its exit status, as `serve` and `run` have it alike. */
import { EXIT } from "../errors.ts";
import { type Streaming, TruncatedError } from "../library/streaming.ts";
import { catchSignals } from "../process/signals.ts";
import type { ProgressDisplay } from "../progress/display.ts";
import type { EndpointSpec } from "../endpoint/spec.ts";
import type { Summary } from "../server/summary.ts";
import type { CliLog } from "./log.ts";
import { report, type ReportOptions } from "./report.ts";

/** What a stream looks like to the user. */
export interface Output {
  readonly log: CliLog;
  readonly display: ProgressDisplay;
  readonly reports: ReportOptions;
}

/**
 * Sees a stream that has just been started through to its end.
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
  streaming.once("listening", () => display.begin(() => streaming.progress));
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
  const reported = await report(summary, spec, reports, log);
  return reported || status !== EXIT.COMPLETE ? status : EXIT.SETUP;
}
