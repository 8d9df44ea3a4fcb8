/** The reports at the end of a stream: the last line, `--summary` and `--checksum`. */
import { rmSync } from "node:fs";
import { basename } from "node:path";
import type { EndpointSpec } from "../endpoint/spec.ts";
import { UserError } from "../errors.ts";
import {
  type NamedFile,
  type Place,
  placeOf,
  requireDifferentFile,
  explainFailure,
} from "../files/place.ts";
import type { Summary } from "../server/summary.ts";
import type { CliLog } from "./log.ts";
import type { SummaryFormat } from "./options.ts";

/** Milliseconds in which a reader has to open the FIFO that a report goes to. */
const READER_LIMIT = 2000;

export interface ReportOptions {
  readonly summary: SummaryFormat;
  /** Where the line in the format of sha256sum(1) goes. */
  readonly checksumFile: string | undefined;
}

/** A kind of report. */
interface Kind extends Pick<NamedFile, "name"> {
  /** For messages. */
  readonly what: string;
  /** True for the text of such a report, of any stream: it may be replaced. */
  readonly isOne: (text: string) => boolean;
}

const CHECKSUM: Kind = { name: "--checksum", what: "a checksum", isOne: isChecksum };
const SUMMARY: Kind = { name: "--summary", what: "a summary", isOne: isSummary };

interface ReportFile extends NamedFile, Kind {}

function checksumFile({ checksumFile: path }: ReportOptions): ReportFile | undefined {
  return path === undefined ? undefined : { ...CHECKSUM, path };
}

/** The file of the summary, which is the same in the options of all streams. */
function summaryFile([first]: readonly ReportOptions[]): ReportFile | undefined {
  if (first?.summary.kind !== "json" || first.summary.file === undefined) return undefined;
  return { ...SUMMARY, path: first.summary.file };
}

function allFiles(streams: readonly ReportOptions[]): ReportFile[] {
  const files = [...streams.map(checksumFile), summaryFile(streams)];
  return files.filter((file) => file !== undefined);
}

/**
 * Checks before streams of hours that their reports can be written, and overwrite nothing else.
 *
 * @param streams with the same summary
 * @param others the streams' own files and the pid file
 * @throws UserError ERR_USAGE, ERR_FILE
 */
export async function requireReports(
  streams: readonly ReportOptions[],
  others: readonly NamedFile[],
): Promise<void> {
  const files = allFiles(streams);
  for (const [i, file] of files.entries()) {
    requireDifferentFile(file, [...others, ...files.slice(0, i)]);
  }
  for (const file of files) explained(file, () => reportPlace(file));
  if (files.length > 0) await writers();
}

/**
 * Loads what writes files only if it is needed, but before the stream: hours later, another version of the
 * program may have replaced these modules.
 */
async function writers() {
  const [{ deliver }, { Draft }] = await Promise.all([
    import("../files/deliver.ts"),
    import("../files/draft.ts"),
  ]);
  return { deliver, Draft };
}

function reportPlace({ path, what, isOne }: ReportFile): Place {
  return placeOf(path, what, isOne);
}

/** Removes earlier streams' reports, which could be taken for these. @throws UserError ERR_FILE */
export function removeReports(streams: readonly ReportOptions[]): void {
  for (const file of allFiles(streams)) {
    explained(file, () => {
      if (reportPlace(file).kind === "name") rmSync(file.path, { force: true });
    });
  }
}

function explained<T>({ path }: ReportFile, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new UserError("ERR_FILE", unwritable(path, error));
  }
}

function unwritable(path: string, error: unknown): string {
  return `cannot write ${path}: ${explainFailure(error)}`;
}

/** What is to be reported of a stream. */
export interface Reported {
  readonly summary: Summary;
  readonly spec: EndpointSpec;
  readonly options: ReportOptions;
}

/** Reports how a stream has ended. @returns false when a report could not be written */
export async function report(stream: Reported, log: CliLog): Promise<boolean> {
  const written = await writeReports([stream], log);
  tell(stream.summary, stream.options, log);
  return written;
}

/**
 * Reports how several streams have ended, each of which {@link tell} has told of already.
 *
 * @returns false when a report could not be written
 */
export async function reportStreams(streams: readonly Reported[], log: CliLog): Promise<boolean> {
  const written = await writeReports(streams, log);
  if (streams.some(({ options }) => isJsonOnStderr(options))) return written;
  const complete = streams.filter(({ summary }) => summary.complete).length;
  const text = `${complete} of ${streams.length} streams complete`;
  if (complete === streams.length) log.info(text);
  else log.error(text);
  return written;
}

function isJsonOnStderr({ summary }: ReportOptions): boolean {
  return summary.kind === "json" && summary.file === undefined;
}

/** Tells how a stream has ended, on standard error. @param name of one of several streams */
export function tell(summary: Summary, options: ReportOptions, log: CliLog, name?: string): void {
  if (isJsonOnStderr(options)) return log.raw(jsonLine(summary));
  const text = `${name === undefined ? "" : `${name}: `}${summaryText(summary)}`;
  if (summary.complete) log.info(text);
  else log.error(text);
}

async function writeReports(streams: readonly Reported[], log: CliLog): Promise<boolean> {
  const summaries = streams.map(({ summary }) => summary);
  let written = true;
  for (const [file, text] of textsOf(streams)) {
    try {
      await writeReport(file, text);
    } catch (error) {
      written = false;
      log.error(`${unwritable(file.path, error)}${inSpiteOf(summaries)}`);
    }
  }
  return written;
}

/** The texts of the files: the checksum of each complete stream, and the summaries of all. */
function textsOf(streams: readonly Reported[]): [ReportFile, string][] {
  const texts: [ReportFile, string][] = [];
  for (const { summary, spec, options } of streams) {
    const file = checksumFile(options);
    const text = digestLine(summary, spec);
    if (file !== undefined && text !== undefined) texts.push([file, text]);
  }
  const file = summaryFile(streams.map(({ options }) => options));
  const lines = streams.map(({ summary }) => jsonLine(summary));
  if (file !== undefined) texts.push([file, lines.join("")]);
  return texts;
}

/** What a report that could not be written does not change. */
function inSpiteOf(summaries: readonly Summary[]): string {
  if (!summaries.every(({ complete }) => complete)) return "";
  const [{ checksum } = { checksum: null }, ...others] = summaries;
  if (others.length > 0) return "; the streams themselves are complete";
  const digest = checksum === null ? "" : ` (${checksum.algorithm} ${checksum.digest})`;
  return `; the stream itself is complete${digest}`;
}

function jsonLine(summary: Summary): string {
  return `${JSON.stringify(summary)}\n`;
}

/** Writes a report; a regular file appears only when all of the text is in it. */
async function writeReport(file: ReportFile, text: string): Promise<void> {
  const place = reportPlace(file);
  const { deliver, Draft } = await writers();
  if (place.kind !== "name") {
    await deliver(place, file.path, text, READER_LIMIT);
    return;
  }
  const draft = new Draft(file.path);
  try {
    draft.write(text);
    await draft.sync();
    // Another process may have put something there meanwhile.
    if (reportPlace(file).kind !== "name") throw new Error("it is not what it was a moment ago");
    draft.publish();
  } catch (error) {
    draft.discard();
    throw error;
  }
}

/** True for JSON summaries, one a line, also of another version of the program. */
function isSummary(text: string): boolean {
  return text.trimEnd().split("\n").every(isSummaryLine);
}

function isSummaryLine(line: string): boolean {
  try {
    const { complete, bytes, data, zeroes } = JSON.parse(line) as Partial<Summary>;
    const numbers = [bytes, data, zeroes].every((number) => typeof number === "number");
    return typeof complete === "boolean" && numbers;
  } catch {
    return false;
  }
}

/** The line that `sha256sum -c` reads; undefined for a truncated stream, whose digest means nothing. */
function digestLine({ checksum, complete }: Summary, spec: EndpointSpec): string | undefined {
  if (checksum === null || !complete) return undefined;
  const name = spec.kind === "path" ? basename(spec.path) : "-";
  // As in sha256sum(1): a backslash at the front says that there are escapes in the name.
  const escaped = name.replace(/[\\\n\r]/g, (c) => ESCAPES[c] as string);
  return `${escaped === name ? "" : "\\"}${checksum.digest}  ${escaped}\n`;
}

/** True for one line in the format of sha256sum(1). */
function isChecksum(text: string): boolean {
  return /^\\?(?:[0-9a-f]{32}|[0-9a-f]{64}|[0-9a-f]{128}) [ *][^\n]+\n?$/.test(text);
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r" };

function summaryText(summary: Summary): string {
  const { bytes, data, zeroes, seconds, bytesPerSecond, window, spool, checksum } = summary;
  const rate = (bytesPerSecond / 2 ** 20).toFixed(1);
  const held = window === null ? "" : `, needed ${window.needed} of window=${window.size}`;
  const spooled = spool === null ? "" : `, spooled ${spool.most} at most`;
  const digest = checksum === null ? "" : `, ${checksum.algorithm} ${checksum.digest}`;
  return (
    `${bytes} bytes (data ${data}, zeroes ${zeroes}${held}${spooled}) in ${seconds.toFixed(2)} s, ${rate} MiB/s${digest}: ` +
    (summary.complete ? "complete" : `truncated: ${summary.reason}`)
  );
}
